"""What can go wrong, said so that a reader knows where, what, why and the way out."""

from collections.abc import Iterable
from difflib import get_close_matches


class PlausibleError(Exception):
    """Base of every error this package raises on purpose; the command line prints it as one paragraph."""


class UnknownName(PlausibleError):
    """A rule, model or data set that nobody has registered."""


class ConfigurationError(PlausibleError):
    """A setting that does not exist, or a value it cannot take."""


class CoverageError(PlausibleError):
    """A trainable layer that the rule cannot teach, or that it was told to teach and does not reach."""


class DataError(PlausibleError):
    """A data set that is missing, unreadable or not what it claims to be."""


class CheckpointError(PlausibleError):
    """A checkpoint that is damaged, of another run, or of another version."""


class Diverged(PlausibleError):
    """The loss became NaN or infinite."""


class PlausibleWarning(UserWarning):
    """Something legal that will probably not do what was meant."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """An :class:`UnknownName` that suggests the nearest known names."""
    folded = {each.lower(): each for each in sorted(known)}  # the field writes uSF
    near = get_close_matches(name.lower(), folded, n=1)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    return UnknownName(f"There is no {kind} named {name!r}.{hint} Known: {', '.join(folded.values())}.")
