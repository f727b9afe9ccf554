"""Handle requests to stop a run after the current step."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

REQUEUE_STATUS = 75
"""Exit status of a stopped run that can be resumed: EX_TEMPFAIL of sysexits.h."""

_STOPPING = {signal.SIGTERM: "terminated", signal.SIGUSR1: "preempted", signal.SIGINT: "interrupted"}
"""Signals that stop a run, the most urgent first, with names for their sums over processes."""


class Interruption:
    """Records Ctrl-C, SIGTERM, SIGUSR1 and the time limit; a second Ctrl-C stops immediately.

    Attributes:
        signal: number of the received signal, 0 for none. The time limit counts as SIGUSR1.

    Args:
        time_limit: time limit in seconds from now; ``None`` for no limit.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self.signal = 0
        # The monotonic clock: a wall clock may be set back while a run goes on.
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside the block."""
        previous = {number: signal.signal(number, self._note) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check_time(self) -> None:
        """Request a stop if the time limit is reached."""
        if self._deadline is not None and time.monotonic() >= self._deadline and not self.signal:
            self.signal = signal.SIGUSR1

    def votes(self) -> dict[str, float]:
        """The received signal as 0 or 1 by name, to be summed over processes."""
        return {name: float(self.signal == number) for number, name in _STOPPING.items()}

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def received_by_any(totals: Mapping[str, float]) -> int:
    """The most urgent signal of all processes from the sums of :meth:`Interruption.votes`; 0 for none."""
    return next((int(number) for number, name in _STOPPING.items() if totals[name]), 0)


def exit_status(number: int) -> int:
    """Exit status of a run that saved its state and stopped on a signal; 0 without a signal.

    >>> exit_status(0), exit_status(signal.SIGINT), exit_status(signal.SIGTERM)
    (0, 130, 75)
    """
    if not number:
        return 0
    return 128 + signal.SIGINT if number == signal.SIGINT else REQUEUE_STATUS
