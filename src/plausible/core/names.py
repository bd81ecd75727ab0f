"""Names that point into the user's own code: ``package.module:callable``."""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from plausible.core.errors import ConfigurationError


def resolve(path: str, kind: str) -> Callable[..., Any]:
    """The callable that ``package.module:callable`` names; dots after the colon reach into classes.

    ``kind`` says in messages what it is to be used as ("model", "data set"). Modules in the current folder
    are found too, after all installed ones, whichever way Python was started.

    Raises :class:`ConfigurationError` if the module cannot be imported or holds no such callable.
    """
    module_name, _, attributes = path.partition(":")
    if not module_name or not attributes:
        raise ConfigurationError(f"{kind} {path!r}: write package.module:callable, for example mylab.nets:wide.")
    # A console script, unlike `python -m`, starts without the current folder on the path. Last, so that it
    # shadows nothing.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"{kind} {path!r}: {module_name} itself imports a missing {error.name!r}."
            ) from error
        raise ConfigurationError(
            f"{kind} {path!r}: there is no module {error.name!r}, neither installed nor in {here}. "
            "Install it, or start from the folder that holds it."
        ) from error
    except Exception as error:  # the user's module may fail in any way
        raise ConfigurationError(
            f"{kind} {path!r}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ConfigurationError(f"{kind} {path!r}: {module_name} has no {attributes!r}.") from error
    if not callable(found):
        raise ConfigurationError(f"{kind} {path!r}: that is a {type(found).__name__}, which cannot be called.")
    return found


def check_options(
    function: Callable[..., Any], options: Mapping[str, object], *, kind: str, supplied: Collection[str] = ()
) -> None:
    """Refuse options that ``function`` has no parameter for.

    ``supplied`` are the parameters that the caller fills itself; ``kind`` says in the message whose options
    they are ("model 'mlp'").

    Raises :class:`ConfigurationError` that names the valid options.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables written in C do not tell; they refuse by themselves
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    valid = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    valid = [name for name in valid if name not in supplied]
    if strange := sorted(set(options) - set(valid)):
        known = f"its options are {', '.join(valid)}" if valid else "it has no options"
        raise ConfigurationError(f"{kind} has no option {', '.join(map(repr, strange))}; {known}.")
