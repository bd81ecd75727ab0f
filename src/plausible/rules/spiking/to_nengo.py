"""Hunsberger's network, its chain of error populations included, as a network of Nengo (``pip install nengo``).

Nengo has no reader for NIR, so this builds the network with its own objects, neuron for neuron; given the same voltages
at the start, both fire alike. What is taught is not carried: weights stay as they are.
"""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plausible.core.errors import CoverageError
from plausible.core.learner import Learner
from plausible.rules.spiking.relay import RelayLearner


def to_nengo(learner: Learner, x: Tensor, target: Tensor) -> tuple[Any, dict[str, Any]]:
    """A ``nengo.Network`` that is shown one stimulus, and its ensembles by name, sensors first, errors last.

    Nengo's filters hear a node, such as that of the biases, one step later than a population; its cells start at
    random voltages.

    Args:
        learner: ``nef-dfa`` or ``nef-6`` on a ``lif-mlp``. The errors are those of its readout against the target.
        x: a stimulus, without the dimension of streams.
        target: (classes,), what the readout should be.

    Raises:
        CoverageError: another learner.
        ModuleNotFoundError: nengo is not installed.
    """
    if not isinstance(learner, RelayLearner):
        raise CoverageError(
            "to_nengo takes a learner of nef-dfa or nef-6, whose chain of error populations it builds too, and got a "
            f"{type(learner).__name__}."
        )
    try:
        nengo: Any = import_module("nengo")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("to_nengo makes a network of nengo's, which is missing: pip install nengo") from error
    model: Any = learner.model
    chain = learner.feedback
    cell, alpha = model.neurons.cell, nengo.Alpha(model.synapse.tau)
    classes, columns = model.readout.out_features, len(chain.sign) // model.readout.out_features
    made: dict[str, Any] = {}

    def ensemble(cells: Any, encoders: np.ndarray) -> Any:
        return nengo.Ensemble(*encoders.shape, encoders=encoders, gain=_array(cells.gain), bias=_array(cells.bias))

    def weighted(before: Any, layer: Any, after: Any) -> None:
        nengo.Connection(before.neurons, after, transform=_array(layer.weight), synapse=alpha)
        if layer.bias is not None:
            nengo.Connection(nengo.Node(_array(layer.bias)), after, synapse=alpha)

    with nengo.Network() as network:
        network.config[nengo.Ensemble].neuron_type = nengo.LIF(
            tau_rc=cell.tau_rc, tau_ref=cell.tau_ref, amplitude=cell.amplitude
        )
        pixels, wanted = _array(x.flatten()), nengo.Node(_array(target))
        eye = np.eye(len(pixels))
        made["sensors"] = ensemble(model.sensors, np.concatenate([eye, -eye]) if model.sensors.off else eye)
        nengo.Connection(nengo.Node(pixels), made["sensors"], synapse=None)
        before = made["sensors"]
        for name, layer in model.hidden.items():
            n = layer.out_features
            made[name] = nengo.Ensemble(n, 1, encoders=np.ones((n, 1)), gain=np.ones(n), bias=np.ones(n))
            weighted(before, layer, made[name].neurons)
            before = made[name]
        made["output"] = ensemble(model.output, _array(model.output.encoders))
        weighted(before, model.readout, made["output"])
        sender, D = made["output"], model.decoders
        tuning = zip(*(t.view(len(chain.taught), -1) for t in (chain.gain, chain.bias)), strict=True)
        for name, (gain, bias), decoders in zip(chain.taught, tuning, chain.D, strict=True):
            signs = np.diag(_array(chain.sign)) @ np.tile(np.eye(classes), (columns, 1))
            error = nengo.Ensemble(len(gain), classes, encoders=signs, gain=_array(gain), bias=_array(bias))
            nengo.Connection(sender.neurons, error, transform=_array(D), synapse=alpha)
            if sender is made["output"]:
                nengo.Connection(wanted, error, transform=-1, synapse=alpha)
            made[f"{name}.error"], sender, D = error, error, decoders
    return network, made


def _array(t: Tensor) -> np.ndarray:
    return t.detach().to("cpu", torch.float64).numpy()
