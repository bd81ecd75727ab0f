"""Angles and random numbers, against closed forms."""

from math import acos, cos, degrees, radians

import pytest
import torch
from torch import Tensor

from plausible.functional.alignment import (
    alignment_eigenvalues,
    angle,
    angles,
    cosine,
    norm_ratio,
    sign_concordance,
)
from plausible.functional.random import generator, random_state, replayed


def pair(at: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two tensors of shape (2, 3) that lie at that many degrees to one another, of lengths 1 and ``scale``."""
    t = torch.tensor(radians(at), dtype=torch.float64)
    a, b = torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    a[1] = 1
    b[1], b[4] = scale * torch.cos(t), scale * torch.sin(t)
    return a.reshape(2, 3), b.reshape(2, 3)


@pytest.mark.parametrize("at", [1e-12, 1e-8, 1e-3, 30.0, 90.0, 137.0, 179.999])
@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e7])
def test_angle_keeps_its_digits(at: float, scale: float):
    """An arc cosine would be off by 1e-6 degrees near 0 and 180."""
    assert float(angle(*pair(at, scale))) == pytest.approx(at, rel=1e-9)
    assert float(cosine(*pair(at, scale))) == pytest.approx(cos(radians(at)), abs=1e-15)


def test_angle_near_180():
    """180 − ε: the supplement is kept to a double's rounding of 180."""
    a, b = pair(1e-8)
    assert 180 - float(angle(a, -b)) == pytest.approx(1e-8, abs=1e-13)
    assert float(angle(a, -a)) == 180 and float(angle(a, a)) == 0


def test_angle_of_vectors_by_hand():
    a, b = torch.tensor([3.0, 4.0, 0.0]).double(), torch.tensor([3.0, 0.0, 4.0]).double()
    assert float(angle(a, b)) == pytest.approx(degrees(acos(9 / 25)))
    assert float(angle(a.float(), b.float())) == pytest.approx(degrees(acos(9 / 25)), rel=1e-6)


def test_angles_are_taken_row_by_row():
    found = angles(*(torch.stack(side) for side in zip(*(pair(t) for t in (0.5, 60.0, 170.0)), strict=True)))
    torch.testing.assert_close(found, torch.tensor([0.5, 60.0, 170.0], dtype=torch.float64), rtol=1e-9, atol=0)


def test_a_zero_has_no_angle():
    a, zero = torch.ones(2, 3), torch.zeros(2, 3)
    assert angle(a, zero).isnan() and cosine(zero, a).isnan()
    assert angles(torch.stack([a, zero]), torch.stack([a, a])).isnan().tolist() == [False, True]


def test_norm_ratio_and_sign_concordance():
    a = torch.tensor([[1.0, -2.0], [0.0, 2.0]])
    b = torch.tensor([[4.0, 8.0], [-1.0, 8.0]])
    assert float(norm_ratio(b, a)) == pytest.approx(145**0.5 / 3)
    assert float(sign_concordance(a, b)) == 0.5  # a zero agrees with nothing


def draw(*key: object, seed: int = 0) -> Tensor:
    return torch.rand(8, generator=generator(seed, *key))


def test_eigenvalues_decide_whether_every_error_falls():
    W = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert alignment_eigenvalues(W, W).tolist() == [1.0, 1.0]
    # B Wᵀ = ((1, 4), (0, 1)) has the eigenvalue 1 twice, and yet e B Wᵀ eᵀ = −2 for e = (1, −1).
    B = torch.tensor([[1.0, 4.0, 9.0], [0.0, 1.0, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(alignment_eigenvalues(W, B), torch.tensor([-1.0, 3.0], dtype=torch.float64))
    e = torch.randn(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    along = ((e @ B) * (e @ W)).sum(1) / e.square().sum(1)
    assert -1 - 1e-12 <= along.min() < -0.9 and 2.9 < along.max() <= 3 + 1e-12


def test_a_stream_is_a_function_of_seed_and_key_alone():
    first = draw("layer", 3)
    torch.manual_seed(99)
    draw("another")
    assert torch.equal(draw("layer", 3), first)


def test_other_seeds_and_keys_are_other_streams():
    keys = [("a",), ("b",), ("a", 0), ("a", 1), ("a", "1"), ("a1",), (), ("a", "b"), ("b", "a")]
    streams = [draw(*key, seed=seed) for key in keys for seed in (0, 1, -1, 2**70)]
    assert len({tuple(s.tolist()) for s in streams}) == len(streams)


def test_a_stream_is_the_same_in_every_process_and_version():
    """The key is hashed by BLAKE2b, not by Python's salted hash: the seed is known in advance."""
    import hashlib

    digest = hashlib.blake2b(b"(7, 'net.0', 'B')", digest_size=8).digest()
    assert generator(7, "net.0", "B").initial_seed() == int.from_bytes(digest, "little") // 2


def test_drawing_leaves_the_global_random_state():
    before = torch.get_rng_state()
    draw("x")
    assert torch.equal(before, torch.get_rng_state())


def test_replayed_repeats_and_restores():
    cpu = torch.device("cpu")
    state = random_state(cpu)
    first = torch.rand(3)
    after = torch.get_rng_state()
    with replayed(cpu, state):
        assert torch.equal(torch.rand(3), first)
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), after)
    with pytest.raises(ValueError, match="stop"), replayed(cpu, state):
        raise ValueError("stop")
    assert torch.equal(torch.get_rng_state(), after)
