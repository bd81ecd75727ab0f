"""Rules are found by name, ours and other packages'."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from plausible.core import registry
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.rules.feedback.fa import FeedbackAlignment


def test_every_rule_of_the_first_release_is_there():
    assert set(registry.names()) >= {
        *("backprop", "sham", "fa", "usf", "frsf", "brsf", "signed-init", "kolen-pollack", "weight-mirror"),
        *("dfa", "ifa", "drtp", "frozen"),
    }
    assert registry.names() == sorted(registry.names())


@pytest.mark.parametrize(("wrong", "meant"), [("uSF", "usf"), ("kolen_pollack", "kolen-pollack"), ("dfaa", "dfa")])
def test_an_unknown_name_gets_a_suggestion(wrong: str, meant: str):
    with pytest.raises(UnknownName, match=f"no rule named '{wrong}'. Did you mean '{meant}'"):
        registry.get(wrong)
    with pytest.raises(UnknownName):
        registry.make(wrong)


def test_a_name_unlike_any_gets_the_list():
    with pytest.raises(UnknownName, match="Known: adaptive-dfa, ") as caught:
        registry.get("zzzzzz")
    assert "mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scal": 1.0}, "no option 'scal'. Did you mean 'scale'"),
        ({"seed": 1.5}, "seed = 1.5: it must be a whole number"),
        ({"seed": True}, "seed = True: it must be a whole number"),
        ({"scale": "big"}, "scale = 'big': it must be a number"),
        ({"scale": 0}, "scale = 0: feedback weights need a positive scale"),
        ({"per_layer": 1}, "per_layer = 1: it must be true or false"),
        ({"last_layer": "fa"}, "last_layer = 'fa': it must be 'rule' or 'backprop'"),
        ({"uncovered": "ignore"}, "uncovered = 'ignore': it must be 'error' or 'backprop'"),
        ({"batch_manhattan": "yes"}, "batch_manhattan = 'yes': it must be true or false"),
    ],
)
def test_bad_options(options: dict[str, object], says: str):
    with pytest.raises(ConfigurationError, match=f"fa.*{says}"):
        registry.make("fa", **options)


@pytest.mark.parametrize("option", ["noise", "mirror_rate", "mirror_batch", "mirror_every", "mirror_steps"])
def test_the_mirror_needs_positive_numbers(option: str):
    with pytest.raises(ConfigurationError, match=f"{option} = 0"):
        registry.make("weight-mirror", **{option: 0})


def test_options_arrive():
    rule = registry.make("fa", scale=2, seed=7, last_layer="backprop")
    assert rule == FeedbackAlignment(scale=2, seed=7, last_layer="backprop") != registry.make("fa")


def test_two_rules_cannot_have_one_name():
    @dataclass(frozen=True, kw_only=True)
    class Usurper(FeedbackAlignment):
        pass

    with pytest.raises(ConfigurationError, match=r"Two rules are named 'fa'.*Usurper"):
        registry.register(Usurper)
    assert registry.get("fa") is FeedbackAlignment
    registry.register(FeedbackAlignment)  # the same again, as a reload does, is no conflict


OUTSIDE = '''\
"""Half of the error goes back.

Equation:
    B = W / 2

What travels:
    Half.

Departures:
    None.

Reference: half2024

@misc{half2024,
  title = {Half}
}
"""
from dataclasses import dataclass, replace
from plausible.core.families.transport import TransportRule
from plausible.core.registry import get, register

@register
@dataclass(frozen=True, kw_only=True)
class Half(TransportRule):
    """B = W / 2."""
    name = "half"
    claims = replace(get("sham").claims, paper="half2024")

    def feedback(self, weight, state):
        return weight / 2
'''

USES_IT = """\
import torch
import plausible
from plausible.core import registry
assert "half" in registry.names() and "fa" in registry.names()
print(registry.summary("half"), registry.citation("half").split(",")[0])
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
x, y = torch.ones(1, 2), torch.tensor([0])
loss = torch.nn.functional.cross_entropy
whole = torch.autograd.grad(loss(model(x), y), model[0].weight)[0]
plausible.bind(model, "half", loss).learn(x, y)
torch.testing.assert_close(model[0].weight.grad, whole / 2)
"""


def test_another_package_joins_through_an_entry_point(tmp_path: Path):
    """A module and a distribution's metadata on the path, as installing a package leaves them."""
    (tmp_path / "outside_rules.py").write_text(OUTSIDE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plausible.rules]\nhalf = outside_rules\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USES_IT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Half of the error goes back. @misc{half2024\n"


def test_constraints_have_a_registry_of_their_own(monkeypatch):
    assert {"quantised", "noisy"} <= set(registry.constraints.names())
    assert not set(registry.constraints.names()) & set(registry.names())
    with pytest.raises(UnknownName, match=r"no constraint named 'noise'. Did you mean 'noisy'"):
        registry.constraints.get("noise")
    with pytest.raises(ConfigurationError, match=r"noisy has no option 'rite'. Did you mean 'write'"):
        registry.constraints.make("noisy", rite=1.0)
    broken = EntryPoint("leaky", "a_module_that_is_missing", "plausible.constraints")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken] if group == broken.group else [])
    registry._discover.cache_clear()
    with pytest.raises(ConfigurationError, match=r"The constraint 'leaky'.*a_module_that_is_missing"):
        registry.constraints.names()


def test_a_broken_package_is_named(monkeypatch):
    broken = EntryPoint("half", "a_module_that_is_missing", registry.rules.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken] if group == registry.rules.group else [])
    registry._discover.cache_clear()
    with pytest.raises(ConfigurationError, match=r"'half'.*a_module_that_is_missing.*uninstall that package"):
        registry.names()
    monkeypatch.undo()
    assert "fa" in registry.names()
