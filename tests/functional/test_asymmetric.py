"""Products with another weight on the way back, against autograd with that weight: they are linear in the activity."""

import pytest
import torch
from torch import Tensor

from plausible.functional import asymmetric

SHAPES = [  # activity, weight, and whether the weight stands on the left
    ((3,), (3,), False), ((3,), (3,), True), ((4, 3), (3,), False), ((2, 4, 3), (3,), False), ((3, 4), (3,), True),
    ((2, 3, 4), (3,), True), ((3,), (3, 5), False), ((3,), (2, 3, 5), False), ((5,), (3, 5), True),
    ((4,), (2, 3, 4), True), ((4, 3), (3, 5), False), ((2, 4, 3), (3, 5), False), ((2, 3, 4), (5, 3), True),
    ((2, 1, 4, 3), (6, 3, 5), False), ((7, 1, 4, 3), (6, 3, 5), False), ((4, 3), (6, 3, 5), False),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "weight_shape", "left"), SHAPES, ids=str)
def test_matmul_of_all_shapes(shape: tuple[int, ...], weight_shape: tuple[int, ...], left: bool):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    W, B = (torch.randn(weight_shape, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def plain(weight: Tensor) -> Tensor:
        return weight @ x if left else x @ weight

    found = asymmetric.matmul(x, W, lambda weight: B.detach(), left=left)
    torch.testing.assert_close(found, plain(W))
    delta = torch.randn_like(found)
    for_x, for_W = torch.autograd.grad(found, (x, W), delta)
    torch.testing.assert_close(for_x, torch.autograd.grad(plain(B), x, delta)[0])
    torch.testing.assert_close(for_W, torch.autograd.grad(plain(W), W, delta)[0])


def test_any_product_by_name_of_its_function():
    """Bilinear in two activities: each gets its error through B and the other."""
    torch.manual_seed(0)
    left, right = (torch.randn(4, n, dtype=torch.float64, requires_grad=True) for n in (3, 2))
    W, B = (torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def function(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("oij,ni,nj->no", weight, a, b)

    found = asymmetric.product(function, W, lambda weight: B, left, right)
    assert torch.equal(found, function(W, left, right))
    delta = torch.randn_like(found)
    mine = torch.autograd.grad(found, (left, right, W), delta, retain_graph=True)
    theirs = torch.autograd.grad(function(B, left, right), (left, right), delta)
    torch.testing.assert_close(mine[:2], theirs)
    torch.testing.assert_close(mine[2], torch.autograd.grad(function(W, left, right), W, delta)[0])
    assert torch.autograd.grad(found, B, delta, allow_unused=True) == (None,), "B is not what learns"
