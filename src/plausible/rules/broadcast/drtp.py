"""Direct random target projection (DRTP): the target itself, not the error, goes straight to every hidden layer.

Equation:
    δ_l = (B_l y*) ∘ φ′(a_l),    y* the one-hot target        (Frenkel, Lefebvre & Bol 2021, eq. 3)

What travels:
    y* (N, n_out) goes to every hidden layer through its own B_l (n_out, n_l). A hidden layer need not wait for the
    output. The output layer learns by its own error.

Departures:
    B_l as in dfa. y* is divided by the number of rows of the batch, as the error of a mean loss is, and negated, so
    that δ_l is the part of e = softmax(a_L) − y* that is known before the output is.

Reference: frenkel2021

@article{frenkel2021,
  author  = {Frenkel, Charlotte and Lefebvre, Martin and Bol, David},
  title   = {Learning without feedback: Fixed random learning signals allow for feedforward training of deep neural
             networks},
  journal = {Frontiers in Neuroscience},
  volume  = {15},
  pages   = {629892},
  year    = {2021}
}
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from plausible.core.errors import ConfigurationError
from plausible.core.registry import register
from plausible.core.rule import Claims, Teacher, held
from plausible.rules.broadcast.dfa import DirectFeedbackAlignment


@register
@dataclass(frozen=True, kw_only=True)
class DirectRandomTargetProjection(DirectFeedbackAlignment):
    """A fixed random projection of the target to every layer."""

    name = "drtp"
    anywhere: ClassVar[bool] = True
    claims = Claims(
        reads="label",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=False,
        additive=True,
        paper="frenkel2021",
    )
    literature = held("Y Y ? ? ? N ? Y ?")

    def message(self, error: Tensor, y: Teacher) -> Tensor:
        """−y*/N, in the shape of the error.

        Raises:
            ConfigurationError: y is neither class indices nor targets in the shape of the output.
        """
        if isinstance(y, Tensor) and y.shape == error.shape:
            target = y.to(error)
        elif isinstance(y, Tensor) and y.shape == error.shape[:-1] and not y.is_floating_point():
            target = F.one_hot(y, error.shape[-1]).to(error)
        else:
            got = f"a tensor of shape {tuple(y.shape)} and {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise ConfigurationError(
                f"drtp broadcasts the target, and needs class indices of shape {tuple(error.shape[:-1])} or targets of "
                f"the output's shape {tuple(error.shape)}; it got {got}."
            )
        return target * (-1 / error[..., 0].numel())
