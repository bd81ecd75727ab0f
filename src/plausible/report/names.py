"""What to call things in print: contenders, data and models, and how numbers are written.

Rules bring their names with them. Data and models that are not here (a user's own) are printed as they were given.
"""

import math
from collections.abc import Mapping

from plausible.compare.statistics import Estimate

_DATA = {
    "digits": "scikit-learn’s digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
_MODELS = {
    "mlp": "a multi-layer perceptron",
    "lenet": "LeNet",
    "small-conv": "a small convolutional network",
    "resnet18": "a ResNet-18",
    "resnet20": "a ResNet-20",
    "resnet56": "a ResNet-56",
    "rsnn": "a recurrent spiking network",
    "lif-mlp": "a perceptron of spiking neurons",
}
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def entry(label: str, rule: str, name: str) -> str:
    """The name of a contender: the rule's ``name``, and the options of an entry like ``fa:last_layer=backprop``.

    One that was relabelled keeps its own label.
    """
    head, *options = label.split(":")
    if head != rule:
        return label
    # Spaces that do not break keep an option on one line.
    told = ", ".join(option.replace("_", "\u00a0").replace("=", "\u00a0=\u00a0") for option in options)
    return f"{name} with {told}" if told else name


def data(name: str) -> str:
    """The name of a data set in a sentence."""
    return _DATA.get(name, name)


def model(name: str) -> str:
    """The name of a model in a sentence."""
    return _MODELS.get(name, name)


def population(name: str) -> str:
    """The name of some cells: a layer's, or that of a wire like ``readout.error``, whose cells stand for the error."""
    layer, dot, what = name.partition(".")
    return f"{what} at {layer}" if dot else layer


def count(n: int, noun: str) -> str:
    """``five seeds``, ``one seed``, ``12 seeds``."""
    return f"{number(n)} {noun}{'' if n == 1 else 's'}"


def number(n: int) -> str:
    """A count in words, up to ten."""
    return _WORDS[n] if n < len(_WORDS) else str(n)


def listed(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def percent(fraction: float, digits: int = 1) -> str:
    """0.971 → ``97.1%``."""
    return f"{100 * fraction:.{digits}f}%"


def points(fraction: float, digits: int = 1) -> str:
    """-0.003 → ``−0.3``: a signed difference in percentage points; what rounds to zero has no sign."""
    text = f"{100 * fraction:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def interval(estimate: Estimate, digits: int = 1) -> str:
    """The interval of a difference in points, ``−0.6 to 0.1``; empty where one seed gives none."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = points(estimate.low, digits), points(estimate.high, digits)
    return f"{low} to {high.lstrip('+')}" if not low.startswith("+") else f"{low} to {high}"


def size(n_bytes: float) -> str:
    """599040 → ``585 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def amount(n: float) -> str:
    """A count in few characters: 0 → ``0``; 0.25 → ``0.25``; 84480 → ``84.5 k``; 28961280 → ``29.0 M``."""
    unit = ""
    for larger in ("k", "M", "G", "T"):
        if float(f"{n:.3g}") < 1000:
            break
        n, unit = n / 1000, larger
    return f"{f'{n:#.3g}'.rstrip('.')}\u00a0{unit}" if unit else f"{n:.3g}"


def duration(seconds: float) -> str:
    """0.0011 → ``1.1 ms``; 75 → ``75 s``; 5400 → ``90 min``."""
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


SIGNS: Mapping[str, str] = {
    "solved": "✔",
    "partly": "◐",
    "violated": "✘",
    "does not apply": "–",
    "could not be measured": "?",
}
"""The sign of each verdict of the audit, where it stands as text."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def magnitude(value: float) -> str:
    """A measured value in few characters: 0.153 → ``0.15``; 8.96e-17 → ``9·10⁻¹⁷``; 10 → ``10``; infinity → ``∞``."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "not a number"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e4:
        mantissa, _, power = f"{value:.0e}".partition("e")
        return f"{mantissa}·10{str(int(power)).translate(_RAISED)}".replace("-", "−")
    return f"{float(f'{value:.2g}'):g}".replace("-", "−") if abs(value) < 100 else f"{value:.0f}".replace("-", "−")
