"""The recipes: every run they name can be built, none is named twice for two things, and pages say what was not run."""

import shutil
import sys
from pathlib import Path

import pytest

from plausible.models import build
from plausible.train import Run

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    yield
    for path in RECIPES.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_runs_are_different_ones_and_their_nets_can_be_built(recipes):
    import all_six
    import hunsberger

    small = [one for run in (*all_six.ABLATIONS.values(), *all_six.DELAYS.values()) for one in all_six.seeded(run)]
    ends = all_six.finals(dict.fromkeys(all_six.RULES, 1e-3)), hunsberger.finals(dict.fromkeys(hunsberger.RATES, 1e-3))
    finals = [run for each in ends for runs in each.values() for run in runs]
    trials = [*all_six.trials().values(), *hunsberger.trials().values()]
    assert len(set(finals)) == len(finals) and len(set(trials)) == len(trials)
    assert len(set(small)) == len(small)
    assert not set(finals) & set(trials), "what was chosen by is not what is shown"
    for run in {str(run.model_options): run for run in (*finals, *small, hunsberger.THESIS)}.values():
        build(run.model, shape=(1, 28, 28), classes=10, **run.model_options)


def test_what_is_run_is_run_once_and_a_page_says_what_is_not(recipes, tmp_path, monkeypatch):
    import study

    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = study.Study(name="page")
    runs = [Run(epochs=1, probe_size=0, seed=seed) for seed in (0, 1)]
    asked.run(runs[:1])
    file = asked.home(runs[0]) / "result.json"
    written = file.stat().st_mtime_ns
    asked.run(runs[:1])
    assert file.stat().st_mtime_ns == written
    found = asked.came(runs)
    assert list(found) == runs[:1] and study.test([]) == "not run"
    asked.write("text", {"trial": found})
    assert (tmp_path / "page.csv").read_text().splitlines()[1].split(",")[6] == "", "trials see no test images"
    asked.write("text", {"final": found})
    shutil.rmtree("plausible-runs")
    assert study.Study(name="page").came(runs) == {}
    known = study.Study(name="page", known=True)
    known.run(runs[:1])
    assert known.came(runs) == found and not file.exists(), "what has a row is known, and not run again"
