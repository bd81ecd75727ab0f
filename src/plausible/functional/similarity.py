"""How alike two representations of the same examples are: linear CKA, and representational similarity analysis (RSA).

A representation is what a layer answers to n examples, one row each. The two that are compared may be of layers of
different width, for both measures ask only how the examples lie to each other.
"""

import torch
from torch import Tensor


def hsic(K: Tensor, L: Tensor) -> Tensor:
    """Hilbert–Schmidt independence criterion of two Gram matrices (n, n): tr(K H L H) / (n - 1)², H = I - 1/n. Scalar.

    The estimator of Gretton et al. (2005), which Kornblith et al. (2019, eq. 3) take. It is biased upwards.
    """
    n = _examples(K, L)
    # H is idempotent, so that tr(K H L H) = tr(HKH · HLH): of two symmetric matrices, the sum of the products.
    return (_centred(K) * _centred(L)).sum() / (n - 1) ** 2


def cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centered kernel alignment: HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) of X Xᵀ and Y Yᵀ. In [0, 1].

    It is ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of representations whose columns have mean 0 (Kornblith et al. 2019, eq. 5), and does
    not change when either is rotated, or scaled as a whole. Of unrelated representations it is above 0, the more so the
    fewer examples there are to each unit: compare values that were taken on the same number of them.

    Args:
        x: (n, …), flattened to (n, p).
        y: (n, …), flattened to (n, q).

    Returns:
        NaN where either does not depend on the example.
    """
    _examples(x, y)
    # Means are taken off before the products: K's own entries may be far larger than their differences.
    K, L = (_gram(each.flatten(1) - each.flatten(1).mean(0)) for each in (x, y))
    return (K * L).sum()


def rdm(x: Tensor) -> Tensor:
    """Representational dissimilarity matrix (n, n): 1 - Pearson's correlation of the patterns of every two examples.

    Kriegeskorte, Mur & Bandettini (2008).

    Args:
        x: (n, …), flattened to (n, p). A pattern that is the same in all units correlates with none: NaN.
    """
    x = x.flatten(1)
    x = x - x.mean(1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True)
    return 1 - x @ x.t()


def rsa(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's rank correlation of two representations' dissimilarities (:func:`rdm`), each pair of examples once.

    Args:
        x: (n, …), three examples or more.
        y: (n, …).

    Returns:
        Scalar in [-1, 1]; NaN where a pattern is constant or all dissimilarities are equal.
    """
    n = _examples(x, y)
    i, j = torch.triu_indices(n, n, 1, device=x.device)
    a, b = rdm(x)[i, j], rdm(y)[i, j]
    if a.isnan().any() or b.isnan().any():
        return a.new_tensor(float("nan"))
    ranks = torch.stack([_ranks(a), _ranks(b)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    return (ranks[0] @ ranks[1] / (ranks[0].norm() * ranks[1].norm())).to(a.dtype)


def _examples(x: Tensor, y: Tensor) -> int:
    if len(x) != len(y):
        raise ValueError(
            f"{len(x)} and {len(y)} examples: both representations must be of the same examples, in the same order."
        )
    return len(x)


def _gram(x: Tensor) -> Tensor:
    """X Xᵀ, of norm 1. Brought to size before it is multiplied, too, so that nothing over- or underflows."""
    x = x / x.norm()
    K = x @ x.t()
    return K / K.norm()


def _centred(K: Tensor) -> Tensor:
    return K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()


def _ranks(values: Tensor) -> Tensor:
    """(n,) → from 1 to n, float64; equal values share the mean of their ranks."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    return (last - (counts - 1) / 2).double()[place]
