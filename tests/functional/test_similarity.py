"""CKA and RSA against their definitions, against what is known of them, and against SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from plausible.functional.similarity import _ranks, cka, hsic, rdm, rsa


def pair(n: int = 12, p: int = 5, q: int = 7) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, p, generator=draw).double()
    return x, x @ torch.randn(p, q, generator=draw).double() + torch.randn(n, q, generator=draw).double() + 3


def orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1)).double())[0]


def test_hsic_is_its_definition_with_centering_matrices():
    x, y = pair()
    n = len(x)
    K, L, H = x @ x.T, torch.exp(-(torch.cdist(y, y) ** 2) / 9), torch.eye(n).double() - 1 / n
    torch.testing.assert_close(hsic(K, L), torch.trace(K @ H @ L @ H) / (n - 1) ** 2)


def test_cka_is_hsic_normalised_and_kornblith_s_equation_5():
    x, y = pair()
    K, L = x @ x.T, y @ y.T
    torch.testing.assert_close(cka(x, y), hsic(K, L) / (hsic(K, K) * hsic(L, L)).sqrt())
    X, Y = x - x.mean(0), y - y.mean(0)
    torch.testing.assert_close(cka(x, y), (Y.T @ X).norm() ** 2 / ((X.T @ X).norm() * (Y.T @ Y).norm()))


def test_cka_by_hand():
    # Centred: x is (-1, 0, 1), y is (-1, 1, 0)·… of one unit each, so that CKA is the squared correlation.
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    assert float(cka(x, y)) == pytest.approx(0.5**2)
    # Two units against one: X = (1, 0), (0, 1), (-1, -1) and y = (1, 0, -1).
    # ‖yᵀX‖² = 2² + 1² = 5, ‖XᵀX‖ = ‖(2 1; 1 2)‖ = √10, ‖yᵀy‖ = 2.
    X, y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1.0], [0.0], [-1.0]])
    assert float(cka(X, y)) == pytest.approx(5 / (2 * math.sqrt(10)))


def test_cka_of_itself_is_1_and_does_not_see_rotation_scale_or_a_shift_but_sees_a_stretch():
    x, y = pair()
    torch.testing.assert_close(cka(x, x), torch.tensor(1.0).double())
    torch.testing.assert_close(cka(x, -3 * x @ orthogonal(5) + 2), torch.tensor(1.0).double())
    torch.testing.assert_close(cka(x @ orthogonal(5), 1e-3 * y), cka(x, y))
    assert float(cka(x, x * torch.tensor([100.0, 1, 1, 1, 1]).double())) < 0.8


def test_cka_of_what_has_nothing_in_common_is_0_and_of_what_is_constant_not_a_number():
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 0]])
    assert float(cka(x, x.flip(0))) == 0
    assert math.isnan(float(cka(x, torch.ones(4, 3))))


def test_cka_keeps_its_digits_far_from_zero_and_for_large_and_small_numbers():
    x, y = pair()
    near = float(cka(x, y))
    assert float(cka((x + 1000).float(), y.float())) == pytest.approx(near, abs=1e-4)
    assert float(cka((x * 1e9).float(), (y * 1e-9).float())) == pytest.approx(near, abs=1e-4)


def test_maps_are_flattened():
    x, y = pair(p=12)
    torch.testing.assert_close(cka(x.unflatten(1, (3, 2, 2)), y), cka(x, y))
    torch.testing.assert_close(rsa(x.unflatten(1, (3, 2, 2)), y), rsa(x, y))


def test_dissimilarities_are_scipy_s():
    x, _ = pair()
    found = rdm(x)
    np.testing.assert_allclose(found[tuple(torch.triu_indices(12, 12, 1))], pdist(x.numpy(), "correlation"), atol=1e-12)
    torch.testing.assert_close(found.diagonal(), torch.zeros(12).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(found, found.T)


def test_dissimilarity_by_hand_is_0_of_a_multiple_2_of_the_opposite_and_1_of_the_unrelated():
    x = torch.tensor([[1.0, 2, 3], [10, 20, 30], [3, 2, 1], [1, -2, 1]])
    torch.testing.assert_close(rdm(x)[0], torch.tensor([0.0, 0, 2, 1]), atol=1e-6, rtol=0)


def test_rsa_is_scipy_s_spearman_of_scipy_s_distances():
    x, y = pair()
    expected = spearmanr(pdist(x.numpy(), "correlation"), pdist(y.numpy(), "correlation")).statistic
    assert float(rsa(x, y)) == pytest.approx(expected)
    assert float(rsa(x, x)) == pytest.approx(1)
    # Each pattern scaled and shifted by itself: Pearson's correlation sees neither.
    by_pattern = torch.rand(12, 1, generator=torch.Generator().manual_seed(2)).double() + 0.1
    assert float(rsa(x * by_pattern - by_pattern, y)) == pytest.approx(expected)


def test_equal_values_share_a_rank():
    values = torch.tensor([2.0, 1.0, 2.0, 5.0, 2.0, 1.0])
    np.testing.assert_array_equal(_ranks(values), rankdata(values))


def test_a_constant_pattern_makes_rsa_not_a_number():
    x, y = pair()
    x[3] = 1
    assert math.isnan(float(rsa(x, y)))


@pytest.mark.parametrize("measure", [cka, rsa, hsic])
def test_other_examples_are_refused(measure):
    x, y = pair()
    with pytest.raises(ValueError, match="12 and 11 examples"):
        measure(x, y[:-1])
