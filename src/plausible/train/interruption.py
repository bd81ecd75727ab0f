"""Ctrl-C and SIGTERM as a request that training answers when it can, with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from plausible.core.errors import PlausibleError


class Interrupted(PlausibleError):
    """Training was asked to stop, and stopped with a checkpoint.

    Attributes:
        exit_status: what a shell expects of a process that this signal ended.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Interruption:
    """While entered, the first SIGINT or SIGTERM is only noted; a second one acts as it always does.

    Python delivers signals to the main thread alone, so elsewhere this notes nothing.

    Attributes:
        received: the signal that came, or ``None``.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # One that is ignored, as in a worker whose parent acts on Ctrl-C, stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self.__exit__()
