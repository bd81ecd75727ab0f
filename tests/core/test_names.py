import collections
import sys

import pytest

from plausible.core.errors import ConfigurationError
from plausible.core.names import check_options, resolve


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the current folder joins it, and must leave again


def test_it_finds_functions_and_what_classes_hold():
    assert resolve("collections:OrderedDict", "thing") is collections.OrderedDict
    assert resolve("collections:OrderedDict.fromkeys", "thing")("a") == {"a": None}


def test_the_current_folder_counts_but_shadows_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    (tmp_path / "my_own_nets.py").write_text("def wide(): return 5\n")
    (tmp_path / "wave.py").write_text("raise RuntimeError('shadowed')\n")
    assert resolve("my_own_nets:wide", "model")() == 5
    assert resolve("wave:open", "model").__module__ == "wave"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mlp", "package.module:callable"),
        (":f", "package.module:callable"),
        ("os:", "package.module:callable"),
        ("no_such_lab.nets:wide", "no module 'no_such_lab'.*Install it"),
        ("os.no_such:wide", "no module 'os.no_such'"),
        ("os:no_such", "os has no 'no_such'"),
        ("os:path.no_such", "os has no 'path.no_such'"),
        ("os:sep", "is a str, which cannot be called"),
    ],
)
def test_what_cannot_be_resolved_is_explained(path, message):
    with pytest.raises(ConfigurationError, match=f"model '{path}'.*{message}"):
        resolve(path, "model")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_dependency", "itself imports a missing 'no_such_dependency'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_module_that_fails_is_not_called_missing(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_lab.py").write_text(source)
    with pytest.raises(ConfigurationError, match=message):
        resolve("broken_lab:f", "model")


def test_options_are_checked_against_the_signature():
    def f(shape, *, width=3): ...

    check_options(f, {"width": 4}, kind="model 'f'", supplied=("shape",))
    with pytest.raises(ConfigurationError, match="model 'f' has no option 'shape', 'widht'; its options are width"):
        check_options(f, {"widht": 4, "shape": 1}, kind="model 'f'", supplied=("shape",))
    with pytest.raises(ConfigurationError, match="it has no options"):
        check_options(lambda: None, {"a": 1}, kind="model 'f'")


def test_a_function_that_takes_anything_is_believed():
    seen = []
    check_options(lambda **options: seen.append(options), {"a": 1}, kind="model")
    assert seen == []  # asked about, not called
