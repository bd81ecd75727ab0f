"""What a learning rule is held to, in tests."""

from torch import Tensor

from plausible.audit.criterion import Batch, get
from plausible.audit.engine import audit
from plausible.audit.finding import Finding
from plausible.audit.subject import Subject
from plausible.core.learner import Learner


def assert_solves(subject: Subject | Learner, problem: str, batch: Batch | tuple[Tensor, Tensor]) -> Finding:
    """Fail unless ``subject``, examined with ``batch``, is measured to solve ``problem``.

    Args:
        subject: a bound learner, or any :class:`~plausible.audit.Subject`; it is left as it is.
        problem: name of a criterion, such as ``weight transport``.
        batch: a :class:`~plausible.audit.Batch`, or ``(x, y)``.

    Returns:
        The finding, for further assertions on its numbers.

    Raises:
        AssertionError: the verdict is another one; the message says what was done and seen.
        UnknownName: there is no such criterion.
    """
    card = audit(subject, batch, only=[problem])
    finding = card.findings[get(problem).name]
    if finding.verdict != "solved":
        raise AssertionError(f"{card.subject}: {finding.criterion}: {finding.verdict}. {finding.sentence}")
    return finding
