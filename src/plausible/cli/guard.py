"""Errors at the command line: one paragraph on stderr and an exit status, a traceback only with ``--debug``."""

import functools
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Annotated, Any

import typer

INTERRUPTED = 130  # what a shell expects of a process that Ctrl-C ended

Debug = Annotated[bool, typer.Option("--debug", help="On an error, show the traceback.")]


def complain(message: str) -> None:
    """Print one paragraph about an error to stderr, wrapped where stderr is a terminal."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        message = textwrap.fill(message, width, initial_indent=" " * len("Error: "), break_long_words=False).lstrip()
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(message, err=True)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option ``--debug``, whose exceptions become a message and an exit status."""

    @functools.wraps(command)
    def wrapper(*args: Any, debug: bool = False, **options: Any) -> None:
        try:
            command(*args, **options)
            sys.stdout.flush()  # here, so that a closed pipe is found out here
        except (typer.Exit, SystemExit):  # the latter is how rich answers a closed pipe
            raise
        except BrokenPipeError:
            # The reader (`| head`) has what it wanted; nothing may be written to stdout any more, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except BaseException as error:
            if debug:
                raise
            message, status = _explained(error)
            complain(message)
            raise typer.Exit(status) from None

    signature = inspect.signature(command, eval_str=True)
    flag = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    wrapper.__signature__ = signature.replace(parameters=[*own, flag])  # pyright: ignore[reportAttributeAccessIssue]
    wrapper.__annotations__ = {p.name: p.annotation for p in (*own, flag)}
    return wrapper


def _explained(error: BaseException) -> tuple[str, int]:
    """What to tell the reader, and the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Interrupted.", INTERRUPTED
    # Who has raised one of ours has imported it. Nothing is imported here, for importing torch may be what failed.
    ours, training = sys.modules.get("plausible.core.errors"), sys.modules.get("plausible.train.interruption")
    if training and isinstance(error, training.Interrupted):
        return str(error), error.exit_status  # pyright: ignore[reportAttributeAccessIssue]
    if ours and isinstance(error, ours.PlausibleError):
        return str(error), 1
    if isinstance(error, MemoryError):
        return "There is not enough memory. Try a smaller --batch-size or model, or fewer --jobs.", 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}.", 1
    return (
        f"{type(error).__name__}: {error}. This should not happen; run the command again with --debug to see where, "
        "and please report it.",
        1,
    )
