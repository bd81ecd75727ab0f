"""Train any PyTorch network under the brain's constraints, and see what that costs.

The public names are imported on first use (PEP 562), so that ``plausible --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "bind": "plausible.core",
    "distribute": "plausible.core",
    "release": "plausible.core",
    "Claims": "plausible.core",
    "Learner": "plausible.core",
    "Outcome": "plausible.core",
    "Rule": "plausible.core",
    "Tunable": "plausible.core",
    "PlausibleError": "plausible.core.errors",
    "PlausibleWarning": "plausible.core.errors",
    "alignment": "plausible.probes",
    "assert_solves": "plausible.audit",
    "Run": "plausible.train",
}

__all__ = [
    "Claims",
    "Learner",
    "Outcome",
    "PlausibleError",
    "PlausibleWarning",
    "Rule",
    "Run",
    "Tunable",
    "__version__",
    "alignment",
    "assert_solves",
    "bind",
    "distribute",
    "release",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'plausible' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from plausible.audit import assert_solves
    from plausible.core import Claims, Learner, Outcome, Rule, Tunable, bind, distribute, release
    from plausible.core.errors import PlausibleError, PlausibleWarning
    from plausible.probes import alignment
    from plausible.train import Run
