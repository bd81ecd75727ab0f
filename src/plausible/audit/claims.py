"""Holds what a rule claims, and what the literature holds of it, against what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from plausible.audit.finding import Finding
from plausible.core.rule import Claims, Rule

_SILENT = ("does not apply", "could not be measured")


@dataclass(frozen=True)
class Disagreement:
    """One problem in which a measurement differs from what was expected.

    Attributes:
        problem: which.
        expected: the verdict that was expected.
        by: who expected it: "claims" or "literature".
        measured: the verdict that came out.
        because: the cause, as the rule's author found it; empty if nobody has explained it.
    """

    problem: str
    expected: str
    by: str
    measured: str
    because: str


def claimed(claims: Claims) -> dict[str, str]:
    """The verdicts that a rule's claims amount to, by problem."""
    timely = [claims.phases == 1, claims.tolerates_delay].count(True)
    sequence = {None: "does not apply", True: "violated", False: "solved"}
    return {
        "weight transport": {"none": "solved", "signs": "partly", "full": "violated"}[claims.forward_weights],
        "derivative transport": "violated" if claims.derivatives_travel else "solved",
        "linear feedback": {"linear": "violated", "bounded": "partly"}.get(claims.feedback, "solved"),
        "spiking": {"none": "violated", "forward": "partly", "all": "solved"}[claims.events],
        "timing": ("violated", "partly", "solved")[timely],
        "target": "violated" if claims.told == "label" else "solved",
        "BPTT": sequence[claims.stores_sequence],
        "Dale's law": "solved" if claims.one_sign else "violated",
        "locality": "solved" if claims.local else "violated",
    }


def disagreements(rule: type[Rule] | Rule, findings: Mapping[str, Finding]) -> list[Disagreement]:
    """Where the measured verdicts differ from the rule's claims or from the literature's view.

    A finding that a problem does not apply to the audited model, or could not be measured, contradicts nobody.
    """
    found = []
    for by, expectations in (("claims", claimed(rule.claims)), ("literature", rule.literature)):
        for problem, expected in expectations.items():
            measured = findings[problem].verdict if problem in findings else "could not be measured"
            if measured not in (expected, *_SILENT) and expected != "does not apply":
                found.append(Disagreement(problem, expected, by, measured, rule.because.get(problem, "")))
    return found
