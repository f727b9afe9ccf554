"""Run the cells of a study, several at a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from esmgn_core.engine.interruption import REQUEUE_STATUS
from esmgn_core.study.folder import State, StudyFolder
from esmgn_core.study.launchers import Launcher, Process, local_process
from esmgn_core.study.plan import Cell

_POLL_SECONDS = 0.2
_LAST_LINES = 20
_STOPPED = (REQUEUE_STATUS, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
"""Exit statuses of a run that was stopped and can be resumed."""

Command = Callable[[Sequence[str]], list[str]]
"""The command line of ``esmgn run`` with these arguments."""
Report = Callable[[Cell, State, float], None]
"""Called when a cell starts or ends, with its new state and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where cells run on this machine.

    Attributes:
        jobs: cells at a time.
        gpus: numbers of the GPUs to use, divided among the jobs; empty for the CPU or all GPUs.
    """

    jobs: int
    gpus: tuple[int, ...] = ()

    def environment(self, place: int) -> dict[str, str]:
        """Changes of the environment for the run at place ``place``, from 0."""
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        chosen = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        if self.gpus:
            share = len(self.gpus) // self.jobs
            mine = self.gpus[place * share : (place + 1) * share]
            chosen["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))
        return chosen


@dataclass(slots=True)
class _Running:
    cell: Cell
    place: int
    process: Process
    started: float = field(default_factory=time.monotonic)


def run_cells(
    cells: Sequence[Cell],
    folder: StudyFolder,
    command: Command,
    places: Places,
    report: Report,
    *,
    retry: bool,
    launch: Launcher = local_process,
) -> None:
    """Run all cells that are not done; a failed cell is recorded and the others go on.

    A cell starts after the one whose encoder it starts from. Stopped runs are resumed.

    Args:
        cells: a cell after the one it starts from.
        folder: the folder of the study.
        command: makes the command line of a run.
        places: cells at a time, and GPUs.
        report: called when a cell starts or ends.
        retry: run failed cells again.
        launch: starts a run.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGUSR1 stopped the study; its runs have saved and stopped.
    """
    states: dict[str, State] = {cell.id: folder.state(cell) for cell in cells}
    skipped = {"done", "running"} if retry else {"done", "running", "failed"}
    waiting = [cell for cell in cells if states[cell.id] not in skipped]
    running: list[_Running] = []
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        while waiting or running:
            for ended in [item for item in running if item.process.poll() is not None]:
                running.remove(ended)
                states[ended.cell.id] = _end(ended, folder)
                report(ended.cell, states[ended.cell.id], time.monotonic() - ended.started)
            for cell in list(_ready(waiting, states)):
                if len(running) == places.jobs:
                    break
                place = min({*range(places.jobs)} - {item.place for item in running})
                waiting.remove(cell)
                running.append(
                    _Running(
                        cell,
                        place,
                        launch(command(folder.prepare(cell)), folder.log(cell), places.environment(place)),
                    )
                )
                states[cell.id] = "running"
                report(cell, "running", 0.0)
            waiting = [cell for cell in waiting if not _never(cell, states)]
            if running:
                time.sleep(_POLL_SECONDS)
            elif waiting and not any(True for _ in _ready(waiting, states)):
                return  # they wait for cells that another process runs
    finally:
        _stop(running)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    raise KeyboardInterrupt


def _ready(waiting: Sequence[Cell], states: dict[str, State]) -> Iterator[Cell]:
    """Cells whose parent is done."""
    return (cell for cell in waiting if cell.parent is None or states[cell.parent.id] == "done")


def _never(cell: Cell, states: dict[str, State]) -> bool:
    """True if the cell it starts from will not be done here."""
    return cell.parent is not None and states[cell.parent.id] in ("failed", "stopped")


def _end(ended: _Running, folder: StudyFolder) -> State:
    """Record how a run ended."""
    status = ended.process.wait()
    if status in _STOPPED:
        return "stopped"
    if status == 0 and folder.state(ended.cell) == "done":
        return "done"
    lines = _tail(folder.log(ended.cell))
    folder.record_failure(ended.cell, f"exit status {status}\n\n{lines}")
    return "failed"


def _tail(path: Path) -> str:
    with suppress(OSError):
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
    return ""


def _stop(running: Sequence[_Running]) -> None:
    """Ask all runs to save and stop, and wait for them."""
    for item in running:
        with suppress(ProcessLookupError):
            item.process.terminate()
    for item in running:
        item.process.wait()
