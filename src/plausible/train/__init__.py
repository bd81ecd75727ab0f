"""Train one run, from its configuration to its result."""

from plausible.train.events import Event, Progress, Row
from plausible.train.files import StorageError
from plausible.train.home import Home
from plausible.train.interruption import Interrupted
from plausible.train.result import Result
from plausible.train.run import Run
from plausible.train.session import load_learner
from plausible.train.start import train

__all__ = [
    "Event",
    "Home",
    "Interrupted",
    "Progress",
    "Result",
    "Row",
    "Run",
    "StorageError",
    "load_learner",
    "train",
]
