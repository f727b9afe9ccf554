"""A tracker in a thread of its own, which cannot hold up the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from esmgn_core.engine.run_folder import RunFolder

CAPACITY = 10_000
"""Lines that wait for a slow server; more are dropped."""
PATIENCE = 3
"""Failures in a row after which a tracker is given up."""
SECONDS_AT_THE_END = 15.0

_Item = tuple[int, Mapping[str, float]]


class Tracker(Protocol):
    """Built with ``(run)``, in the thread; may raise anything and take any time."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the values of a step."""

    def close(self, *, failed: bool) -> None:
        """The run is over."""


class Background:
    """Runs a tracker.

    Args:
        name: for messages.
        make: its class.
        run: the run folder.
        config: the run's configuration.
    """

    def __init__(self, name: str, make: Any, run: RunFolder, config: Mapping[str, Any]) -> None:
        self._name, self._run = name, run
        self._items: queue.Queue[_Item | None] = queue.Queue(CAPACITY)
        self._failed = self._given_up = False
        self._dropped = 0
        self._thread = threading.Thread(
            target=self._work, args=(make, config), name=f"esmgn-{name}", daemon=True
        )
        self._thread.start()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Hand over the values of a step, or drop them if too many wait."""
        if self._given_up:
            return
        try:
            self._items.put_nowait((step, dict(values)))
        except queue.Full:
            self._dropped += 1

    def close(self, *, failed: bool) -> None:
        """Wait for what is still to be sent, but not for ever."""
        self._failed = failed
        deadline = time.monotonic() + SECONDS_AT_THE_END
        try:
            self._items.put(None, timeout=SECONDS_AT_THE_END)
        except queue.Full:
            self._dropped += 1
        self._thread.join(max(0.0, deadline - time.monotonic()))
        left = self._items.qsize() + self._dropped
        if self._thread.is_alive():
            self._note(f"does not answer; {left} lines are only in {self._run.metrics.name}")
        elif self._dropped:
            self._note(f"was too slow; {self._dropped} lines are only in {self._run.metrics.name}")

    def _work(self, make: Any, config: Mapping[str, Any]) -> None:
        tracker: Tracker | None = None
        failures = 0
        while (item := self._items.get()) is not None:
            try:
                tracker = tracker or make(self._run, config)
                tracker.log(*item)
            except Exception as error:  # noqa: BLE001 - a library or a server may raise anything
                failures += 1
                self._note(f"failed: {type(error).__name__}: {error}")
                if failures == PATIENCE:
                    self._given_up = True
                    self._note(f"is given up; metrics are in {self._run.metrics.name}")
                    return
            else:
                failures = 0
        try:
            if tracker:
                tracker.close(failed=self._failed)
        except Exception as error:  # noqa: BLE001
            self._note(f"failed: {type(error).__name__}: {error}")

    def _note(self, text: str) -> None:
        self._run.log(f"tracker {self._name} {text}")
