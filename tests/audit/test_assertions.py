"""What a test can hold a rule to, and the fixture that pytest finds by itself."""

import textwrap
from importlib.metadata import entry_points

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.audit import ForeignSubject, LearnerSubject, assert_solves
from plausible.audit.criterion import Batch
from plausible.core.errors import UnknownName

pytest_plugins = ["pytester"]

X, Y = torch.randn(8, 20, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4

NO_NENGO = ("-p", "no:nengo")  # its plugin speaks an older pytest's language


def bound(rule):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4))
    return plausible.bind(model, rule, F.cross_entropy, example=X)


def test_what_is_solved_passes_and_gives_the_finding():
    finding = assert_solves(bound("fa"), "weight-transport", (X, Y))
    assert finding.verdict == "solved" and finding.value < 1e-12
    assert plausible.assert_solves is assert_solves


@pytest.mark.parametrize(
    ("rule", "said"),
    [("backprop", r"violated\. .*forward weights travel"), ("usf", r"partly\. .*signs"), ("frozen", "does not apply")],
)
def test_what_is_not_fails_with_the_sentence(rule, said):
    with pytest.raises(AssertionError, match=f"{rule}: weight transport: {said}"):
        assert_solves(LearnerSubject(bound(rule)), "weight transport", Batch(X, Y, 4))


def test_what_could_not_be_measured_fails():
    calls = iter(range(100))

    def make():
        model, scale = nn.Linear(20, 4), 1 + next(calls)
        return model, lambda x, y: (scale * F.cross_entropy(model(x), y)).backward()

    with pytest.raises(AssertionError, match="could not be measured"):
        assert_solves(ForeignSubject(make, Batch(X, Y, 4)), "target", (X, Y))


def test_an_unknown_problem_is_no_assertion():
    with pytest.raises(UnknownName):
        assert_solves(bound("fa"), "weigth transport", (X, Y))


def test_the_plugin_is_registered():
    assert [e.value for e in entry_points(group="pytest11", name="plausible")] == ["plausible.pytest_plugin"]


def test_the_plugin_costs_nothing_until_it_is_used(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_is_there(request):
            assert request.config.pluginmanager.has_plugin("plausible")
            assert not {"torch", "numpy", "plausible.audit", "plausible.core"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest", *NO_NENGO).assert_outcomes(passed=1)


def test_the_fixture_audits_and_shows_what_it_found_if_the_test_fails(pytester):
    pytester.makepyfile(
        textwrap.dedent(
            """
            import plausible, torch
            from torch import nn

            def test_my_rule(audited):
                model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4))
                learner = plausible.bind(model, "backprop", nn.functional.cross_entropy)
                card = audited(learner, (torch.randn(8, 20), torch.arange(8) % 4), only=["weight transport"])
                assert card.solved == 1
            """
        )
    )
    result = pytester.runpytest_subprocess(*NO_NENGO)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*audit of backprop*", "weight transport: violated. *forward weights travel."])
