"""The perceptron of LIF rates."""

import pytest
import torch

from plausible.core.errors import ConfigurationError
from plausible.functional.lif_rate import LIFRate
from plausible.models import build


def test_cells_get_their_constants_and_derivative():
    options = {"amplitude": 0.025, "tau_rc": 0.05, "derivative": "clipped", "height": 2.0}
    model = build("mlp", shape=(6,), classes=3, width=5, depth=2, activation="lif", activation_options=options)
    found = [module for module in model.modules() if isinstance(module, LIFRate)]
    assert len(found) == 2
    for each in found:
        assert (each.cell.amplitude, each.cell.tau_rc, each.derivative, each.height) == (0.025, 0.05, "clipped", 2.0)


def test_by_default_a_cell_at_twice_the_threshold_gives_one():
    model = build("mlp", shape=(6,), classes=3, width=5, activation="lif")
    lif = model.get_submodule("lif1")
    assert float(lif(torch.ones(1))) == pytest.approx(1, abs=1e-4)  # 63.04 Hz, times 1 / 63.04
    assert float(lif(torch.zeros(1))) == 0


@pytest.mark.parametrize(
    ("activation", "options", "message"),
    [
        ("lif", {"derivative": "linear"}, "activation 'lif'.*true, step"),
        ("lif", {"tau_rc": 20.0}, "for 20 ms give 0.02"),
        ("lif", {"gamma": 0.02}, "'lif' has no option 'gamma'; its options are tau_rc, tau_ref, amplitude"),
        ("tanh", {"amplitude": 1.0}, "activation 'tanh'.*'amplitude'"),
    ],
)
def test_what_a_cell_cannot_be_is_refused(activation, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build("mlp", shape=(6,), classes=3, activation=activation, activation_options=options)
