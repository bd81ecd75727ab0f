"""Rounding to evenly spaced levels, to the nearest or by chance."""

import torch
from torch import Tensor


def quantise(w: Tensor, step: float | Tensor, most: int, uniform: Tensor | None = None) -> Tensor:
    """``w`` in whole steps, none further from zero than ``most`` of them: 2·most + 1 levels, zero among them.

    To the nearest level, a tie to the even one; or, given random numbers, up with the probability of the part of a step
    that is left over, so that the mean over many roundings is ``w`` (Gupta et al. 2015). A ``w`` that lies on
    a level stays there, and one beyond the last saturates.

    Args:
        w: any shape.
        step: from one level to the next; without dimensions.
        most: the number of steps from zero to the last level.
        uniform: as ``w``, in [0, 1).

    Raises:
        ValueError: no positive step, or no level besides zero.
    """
    if step <= 0 or most < 1:
        raise ValueError(f"step = {float(step)} and most = {most}: both must be positive.")
    exact = w / step
    level = exact.round()
    if uniform is not None:
        below = exact.floor()
        # The quotient of what lies on a level may miss it by a rounding error, which chance must not see.
        level = torch.where(level * step == w, level, below + (uniform < exact - below))
    return level.clamp(-most, most) * step
