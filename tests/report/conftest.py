from pathlib import Path

import pytest
import synthetic

from plausible import report


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic comparison of seven rules and five seeds, with its report; not to be changed."""
    directory = synthetic.write(tmp_path_factory.mktemp("comparison"))
    report.write(directory)
    return directory


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three rules, two seeds, three epochs, two layers, no report: a test may spoil it."""
    rules = ("backprop", "fa", "frozen")
    return synthetic.write(tmp_path / "small", rules=rules, seeds=(0, 1), epochs=3, layers=("net.1", "net.3"))
