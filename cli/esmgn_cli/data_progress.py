"""Progress display of store builds."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from esmgn_cli.render import console
from esmgn_core.store.workers import Progress as State

_SECONDS_BETWEEN_LINES = 10.0


class BuildDisplay:
    """A progress bar on a terminal, a plain line every 10 seconds elsewhere. A context manager."""

    def __init__(self) -> None:
        self._console = console(err=True)
        self._start: tuple[float, int] | None = None
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("files"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._start is not None and self._console.is_terminal:
            self._bar.stop()

    def __call__(self, total: int, state: State) -> None:
        """Show the state of a build of ``total`` files."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, state.items
            self._task = self._bar.add_task("build", total=total, text="")
            if self._console.is_terminal:
                self._bar.start()
        began, first = self._start
        rate = (state.items - first) / max(now - began, 1e-3)
        text = f"{rate:,.0f} files/s  {state.refused} refused"
        self._bar.update(self._task, completed=state.items, text=text)
        if not self._console.is_terminal and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._console.print(f"{state.items}/{total}  {text}", soft_wrap=True)
