"""What a rule claims and what the literature holds of it, against what the audit measures. No rule is named here."""

import pytest
import torch
from torch import nn

from plausible.audit import Batch, LearnerSubject, audit
from plausible.audit.claims import claimed, disagreements
from plausible.core.rule import PROBLEMS

SLOW = ("credit",)  # trains; its findings are in the committed table


def wide() -> nn.Module:
    """Wide enough for a null space of all that a relaxing net meets."""
    return nn.Sequential(nn.Linear(6, 96), nn.Tanh(), nn.Linear(96, 80), nn.Tanh(), nn.Linear(80, 4))


@pytest.fixture
def card(small):
    """The rule's scorecard on a wide net, or else on the first that it can teach."""
    torch.manual_seed(0)
    x, y = small.examples(n=12)
    model = wide().double() if small.net.__name__ == "mlp" else small.model()
    return audit(LearnerSubject(small.bind(model)), Batch(x, y, 4), only=[*PROBLEMS, "locality"])


def test_claims_and_findings_agree_or_the_cause_is_known(small, card):
    rule = small.rule()
    unmeasured = {name: f.sentence for name, f in card.findings.items() if f.verdict == "could not be measured"}
    assert not unmeasured, "that is for foreign code"
    unexplained = [each for each in disagreements(rule, card.findings) if not each.because]
    assert not unexplained, (
        f"{card.findings[unexplained[0].problem].sentence} Find the cause; never edit the claim to fit."
    )
    assert set(rule.literature) | set(rule.because) <= {*PROBLEMS, "locality", *SLOW}


def test_every_problem_a_claim_is_about_is_measured(small, card):
    assert set(claimed(small.rule().claims)) <= set(card.findings)
    assert all(finding.sentence for finding in card.findings.values())
