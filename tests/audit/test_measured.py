"""The shipped table: of every rule, without gaps, with every disagreement explained, and right where we know."""

import pytest

from plausible.audit import criteria
from plausible.audit.claims import disagreements
from plausible.audit.measured import measured
from plausible.core import registry

AGAIN = "run `python results/audit.py`"

KNOWN = {
    ("backprop", "weight transport"): "violated",
    ("backprop", "derivative transport"): "violated",
    ("sham", "weight transport"): "violated",
    ("predictive-coding", "weight transport"): "violated",
    ("fixed-prediction", "weight transport"): "violated",
    ("z-il", "weight transport"): "violated",
    ("equilibrium-propagation", "weight transport"): "violated",
    ("fa", "weight transport"): "solved",
    ("dfa", "weight transport"): "solved",
    ("kolen-pollack", "weight transport"): "solved",
    ("weight-mirror", "weight transport"): "solved",
    ("usf", "weight transport"): "partly",
    ("frsf", "weight transport"): "partly",
    ("brsf", "weight transport"): "partly",
    ("signed-init", "weight transport"): "solved",
    ("dtp", "weight transport"): "violated",
    ("sdtp", "weight transport"): "solved",
    ("fa", "derivative transport"): "violated",
    ("dfa", "derivative transport"): "solved",
    ("dfa", "linear feedback"): "violated",
    ("dendritic-microcircuit", "timing"): "solved",
    ("eprop", "BPTT"): "solved",
    ("node-perturbation", "target"): "solved",
}
"""What the audit must find by itself."""


def test_every_registered_rule_has_a_scorecard():
    assert set(registry.names()) <= set(measured()), AGAIN


@pytest.mark.parametrize("rule", registry.names())
def test_nothing_of_ours_could_not_be_measured(rule):
    card = measured()[rule]
    assert list(card.findings) == [each.name for each in criteria()], AGAIN
    unmeasured = {name: f.sentence for name, f in card.findings.items() if f.verdict == "could not be measured"}
    assert not unmeasured, "that is for foreign code"
    assert card.dtype == "float64" and card.examples >= 64


@pytest.mark.parametrize("rule", registry.names())
def test_every_disagreement_is_explained(rule):
    unexplained = [each for each in disagreements(registry.get(rule), measured()[rule].findings) if not each.because]
    assert not unexplained, "find the cause; never edit the claim to fit"


@pytest.mark.parametrize(("rule", "problem"), KNOWN)
def test_known_cases(rule, problem):
    finding = measured()[rule].findings[problem]
    assert finding.verdict == KNOWN[rule, problem], finding.sentence


def test_dtp_reads_a_forward_weight_in_the_penultimate_layer_alone():
    found = measured()["dtp"].findings["weight transport"]
    *lower, last = found.layers  # by the layer whose weight is read
    assert found.layers[last] >= found.thresholds["transported"]
    assert lower
    assert all(found.layers[name] < found.thresholds["transported"] for name in lower)
    assert all(
        v < found.thresholds["transported"] for v in measured()["sdtp"].findings["weight transport"].layers.values()
    )


def test_what_is_kept_of_a_learnt_or_fixed_feedback_is_not_a_weight():
    for rule in ("fa", "dfa", "kolen-pollack"):
        found = measured()[rule].findings["weight transport"]
        assert found.value is not None and found.value < 1e-9  # rounding, and nothing else


def test_the_table_cannot_be_changed_by_a_reader():
    with pytest.raises(TypeError):
        measured()["mine"] = measured()["fa"]  # pyright: ignore[reportIndexIssue]
