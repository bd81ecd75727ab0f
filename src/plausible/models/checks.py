"""What model builders ask of their arguments."""

from collections.abc import Collection

from plausible.core.errors import ConfigurationError


def image_shape(shape: tuple[int, ...], model: str, smallest: int = 1) -> tuple[int, int, int]:
    """(channels, height, width), or ConfigurationError unless both sides have ``smallest`` pixels."""
    if len(shape) != 3:
        raise ConfigurationError(f"model {model!r} needs images (C, H, W); examples have shape {shape}. Use 'mlp'.")
    channels, height, width = shape
    if min(height, width) < smallest:
        raise ConfigurationError(
            f"model {model!r} needs images of at least {smallest}x{smallest} pixels, these have "
            f"{height}x{width}. Use 'small-conv' or 'mlp', or larger images."
        )
    return channels, height, width


def whole(option: str, value: int, least: int) -> None:
    """Raise ConfigurationError unless ``value`` is an int of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{option} is {value!r}; it must be a whole number from {least} up.")


def fraction(option: str, value: float) -> None:
    """Raise ConfigurationError unless ``value`` is a number from 0 to below 1."""
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigurationError(f"{option} is {value!r}; it must be a number from 0 to below 1.")


def one_of(option: str, value: object, known: Collection[object]) -> None:
    """Raise ConfigurationError unless ``value`` is one of the known ones."""
    if value not in known:
        raise ConfigurationError(f"{option} is {value!r}; it must be one of {', '.join(map(str, known))}.")
