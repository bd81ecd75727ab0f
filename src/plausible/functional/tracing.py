"""What ``torch.compile`` is to leave alone."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def untraced(function: Function) -> Function:
    """The function, run as it is by what is compiled around it: torch's own decorator hides its signature."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]
