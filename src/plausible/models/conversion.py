"""A net that was trained as rates, run in spikes with the same weights (Hunsberger & Eliasmith 2015, 2016).

Every :class:`plausible.models.SoftLIF` becomes a population of LIF neurons under the same current, and whatever stands
between two populations acts on spikes that a synapse has filtered. That is exact on average only for what is linear.
"""

import copy
from collections.abc import Iterator

from torch import nn

from plausible.core.attach import detach, layer_type
from plausible.core.errors import ConfigurationError
from plausible.functional.synapses import Alpha
from plausible.functional.units import seconds
from plausible.models.populations import SpikingNet, Synapse
from plausible.models.soft_lif import SoftLIF

LINEAR: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
"""What acts on filtered spikes as on rates, once dropout is off; besides linear and convolutional layers."""


ALPHA = Alpha(5e-3)


def to_spikes(
    model: nn.Module,
    *,
    synapse: Synapse = ALPHA,
    dt: float = 1e-3,
    duration: float = 0.2,
    window: tuple[float, float] = (0.1, 0.2),
) -> SpikingNet:
    """The net in spikes: every SoftLIF a population of LIF neurons, dropout off, batch normalisation at its statistics.

    The model stays as it is, and later changes of its weights do not reach the copy. It may be bound to a rule.

    Args:
        model: nn.Sequential (of nn.Sequential), trained with SoftLIF.
        synapse: filters the spikes of every population. ``LowPass(0)``: none.
        dt: length of a step, in seconds.
        duration: for how long an image is shown, in seconds.
        window: from when to when the readout is averaged, in seconds after the image came.

    Raises:
        ConfigurationError: a module does not convert, nothing would spike, or the window is none.
        ValueError: a time that cannot be one in seconds, or steps longer than a refractory period.
    """
    seconds("dt", dt)
    seconds("duration", duration, most=1000.0)
    if not 0 <= round(window[0] / dt) < round(window[1] / dt) <= round(duration / dt):
        raise ConfigurationError(
            f"to_spikes: the window {window} must begin at 0 s or later, last a step ({dt:g} s) or more and end within "
            f"the presentation of {duration:g} s. All times are in seconds."
        )
    plain = copy.deepcopy(model)
    detach(plain)
    plain.eval().requires_grad_(False)
    blocks: list[list[nn.Module]] = [[]]
    units: dict[str, SoftLIF] = {}
    for name, module in _links(plain, ""):
        if isinstance(module, SoftLIF):
            units[name] = module
            blocks.append([])
        else:
            blocks[-1].append(_converted(name, module))
    if not units:
        raise ConfigurationError(
            "to_spikes: the model has no SoftLIF, so nothing would spike. Train it with SoftLIF in the place of its "
            "activations, such as plausible.models.build('mlp', ..., activation='soft-lif')."
        )
    return SpikingNet([nn.Sequential(*block) for block in blocks], units, synapse, dt, duration, window)


def _links(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that run one after the other."""
    if type(module) is nn.Sequential:
        for key, child in module._modules.items():  # named_children() leaves out what comes twice
            assert child is not None
            yield from _links(child, f"{name}.{key}" if name else key)
    else:
        yield name, module


def _converted(name: str, module: nn.Module) -> nn.Module:
    """The module, if it acts on filtered spikes as on rates."""
    if layer_type(module) or type(module) in LINEAR:
        return module
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
        return module
    if isinstance(module, nn.modules.pooling._MaxPoolNd | nn.modules.pooling._AdaptiveMaxPoolNd):
        why = "The largest of several filtered spike trains is not that of their rates: take nn.AvgPool2d or its like."
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        why = "It normalises by the batch it sees: let it track running statistics."
    elif any(True for _ in module.children()):
        why = "It has parts whose order is not known: write the model as nn.Sequential (of nn.Sequential)."
    else:
        why = "Train with SoftLIF in the place of other activations."
    raise ConfigurationError(
        f"to_spikes: module {name!r}, a {type(module).__name__}, does not convert. {why} Between populations there may "
        "be linear and convolutional layers, average pooling, dropout, flattening, and batch normalisation."
    )
