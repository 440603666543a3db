"""When to stop early: SIGINT, SIGTERM, or a time limit; asked for between steps so that a checkpoint can follow."""

import signal
import time
from typing import Any

TIME_LIMIT = 1  # beside the numbers of SIGINT and SIGTERM


def reason(request: int) -> str:
    """Why a training stops, in words: TIME_LIMIT or the number of a signal."""
    return "the time limit" if request == TIME_LIMIT else signal.Signals(request).name


class StopRequest:
    """Context manager that turns SIGINT and SIGTERM into a number to ask for, `requested()`, and knows the time limit.

    The first signal asks for a clean stop; a second SIGINT interrupts at once (the last checkpoint stays).
    """

    def __init__(self, max_minutes: float | None):
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._previous: dict[int, Any] = {}
        self._signal: int | None = None

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def requested(self) -> int:
        """Why to stop now: the number of a signal, TIME_LIMIT, or 0 to go on."""
        if self._signal is not None:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return TIME_LIMIT
        return 0
