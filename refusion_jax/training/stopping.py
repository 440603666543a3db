"""When to stop early: SIGINT, SIGTERM, or a time limit; asked for between steps so that a checkpoint can follow."""

import signal
import time


class StopRequest:
    """Context manager that turns SIGINT and SIGTERM into a question, `reason()`, and knows the time limit.

    The first signal asks for a clean stop; a second SIGINT interrupts at once (the last checkpoint stays).
    """

    def __init__(self, max_minutes: float | None):
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._previous: dict[int, object] = {}
        self.signal: int | None = None

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def reason(self) -> str | None:
        """Why to stop now, in words, or None to go on."""
        if self.signal is not None:
            return signal.Signals(self.signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        return None
