"""A fixture for tests that hold a learning rule to what it should solve.

pytest loads this module in every test run of whoever has plausible installed, so it imports nothing that is heavy.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from plausible.audit import Batch, Scorecard, Subject
    from plausible.core import Learner


@pytest.fixture
def audited(request: pytest.FixtureRequest) -> "Callable[..., Scorecard]":
    """``audited(learner, batch, only=None)``: :func:`plausible.audit.audit`; a test that fails shows what it found."""

    def examine(
        subject: "Subject | Learner", batch: "Batch | tuple[Tensor, Tensor]", only: list[str] | None = None
    ) -> "Scorecard":
        from plausible.audit import audit

        card = audit(subject, batch, only=only)
        lines = [f"{f.criterion}: {f.verdict}. {f.sentence}" for f in card.findings.values()]
        request.node.add_report_section("call", f"audit of {card.subject}", "\n".join(lines))
        return card

    return examine
