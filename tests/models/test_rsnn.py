"""The recurrent spiking net, against a literal loop, and what it refuses."""

import pytest
import torch

from plausible.core.errors import ConfigurationError
from plausible.models import build


def test_images_are_read_row_by_row_and_each_row_is_held():
    torch.manual_seed(0)
    model = build("rsnn", shape=(2, 5, 3), classes=4, width=6, hold=2).double()
    x = torch.randn(3, 2, 5, 3, dtype=torch.float64)
    assert model.time_axis == 2
    frames = list(model.frames(x))
    assert len(frames) == 10
    for row in range(5):
        expected = torch.cat([x[:, 0, row], x[:, 1, row]], 1)
        assert torch.equal(frames[2 * row], expected) and torch.equal(frames[2 * row + 1], expected)


def test_the_output_is_the_mean_readout_or_all_of_them():
    outputs, x = [], 2 * torch.randn(3, 7, 5)
    for output in ("mean", "sequence"):
        torch.manual_seed(0)
        model = build("rsnn", shape=(5,), classes=4, width=6, output=output)
        assert model.time_axis == 1 and model.stepwise == (output == "sequence")
        outputs.append(model(x))
    assert outputs[0].shape == (3, 4) and outputs[1].shape == (3, 7, 4)
    torch.testing.assert_close(outputs[0], outputs[1].mean(1))


def test_steps_are_the_forward_pass_and_change_nothing():
    torch.manual_seed(0)
    model = build("rsnn", shape=(5,), classes=4, width=6, adaptive=3, output="sequence", threshold=0.1)
    x = 2 * torch.randn(3, 7, 5)
    state, readouts = model.rest(x), []
    for x_t in model.frames(x):
        before = [t.clone() for t in (*state.neurons, state.y)]
        after, y = model.step(state, x_t)
        assert all(torch.equal(a, b) for a, b in zip(before, (*state.neurons, state.y), strict=True))
        state = after
        readouts.append(y)
    assert torch.equal(torch.stack(readouts, 1), model(x))
    assert state.neurons.z.any()


def test_it_starts_as_the_paper_says():
    torch.manual_seed(0)
    model = build("rsnn", shape=(1, 4, 300), classes=200, width=400)
    for layer in (model.input, model.recurrent, model.readout):
        deviation = layer.weight.std() * layer.in_features**0.5
        assert abs(deviation - 1) < 5 / (2 * layer.weight.numel()) ** 0.5 + 0.002
    assert not model.recurrent.weight.diag().any() and model.recurrent.bias is None
    assert not model.input.bias.any() and not model.readout.bias.any()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 4), {}, r"images \(C, H, W\) row by row, or sequences"),
        ((4,), {"adaptive": 101}, "no more than the 100 neurons"),
        ((4,), {"hold": 0}, "hold is 0"),
        ((4,), {"output": "last"}, "mean, sequence"),
        ((4,), {"tau": 0.0}, r"tau is 0\.0"),
        ((4,), {"threshold": -1.0}, r"threshold is -1\.0"),
    ],
)
def test_what_it_cannot_be_is_refused(shape, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build("rsnn", shape=shape, classes=2, **options)
