"""How well two weights or two updates agree: angle, norm ratio, concordant signs."""

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine between two tensors of one shape, flattened; NaN where either is zero. Scalar."""
    a, b = a.flatten(), b.flatten()
    return torch.dot(a, b) / (a.norm() * b.norm())


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between two tensors of one shape, flattened, in degrees; NaN where either is zero. Scalar.

    Near 0° and 180° the arc cosine loses half the digits, so the angle is taken from the two sides of
    the rhombus that the unit vectors span: 2·atan2(‖â − b̂‖, ‖â + b̂‖) (Kahan 2006, §12).
    """
    a, b = a.flatten(), b.flatten()
    a, b = a / a.norm(), b / b.norm()
    return torch.rad2deg(2 * torch.atan2((a - b).norm(), (a + b).norm()))


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Angle per example, in degrees: both of shape (N, ...); result (N,), NaN where either row is zero."""
    a, b = a.flatten(1), b.flatten(1)
    a = a / a.norm(dim=1, keepdim=True)
    b = b / b.norm(dim=1, keepdim=True)
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))


def norm_ratio(feedback: Tensor, forward: Tensor) -> Tensor:
    """‖B‖ / ‖W‖, Frobenius norms. Scalar."""
    return feedback.norm() / forward.norm()


def sign_concordance(a: Tensor, b: Tensor) -> Tensor:
    """Fraction of entries with the same sign; an entry that is zero in either counts as discordant. Scalar."""
    return ((a * b) > 0).float().mean()


def alignment_eigenvalues(forward: Tensor, feedback: Tensor) -> Tensor:
    """Eigenvalues of the symmetric part of B Wᵀ, ascending: what e B Wᵀ eᵀ is along its axes, for a row vector e.

    Where all are positive, the feedback of any error turns the layer below so that the error falls (linear cells).
    Hunsberger (2018) asks it of the eigenvalues of B Wᵀ itself, whose real parts may all be positive while the product
    is negative for some e; those of the symmetric part decide.

    Args:
        forward: W (n_out, n).
        feedback: B, in W's shape.

    Returns:
        (n_out,).
    """
    product = feedback @ forward.t()
    return torch.linalg.eigvalsh((product + product.t()) / 2)
