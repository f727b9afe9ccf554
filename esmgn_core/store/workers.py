"""Parts of a plan made by several processes, which may be killed without the build being lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path
from typing import Any

from esmgn_core.errors import DataError
from esmgn_core.machine.child import cause_of_death
from esmgn_core.machine.files import is_full, write_failure
from esmgn_core.store.parts import PartTask, build_part

_POLL = 0.25
_ITEM, _REFUSED = 0, 1
_WRITING = -1  # in the place of an item's number
_PRELOAD = "esmgn_core.store.workers"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the parts in hand are.

    Attributes:
        items: items done, of parts in hand and finished ones.
        refused: how many of them were refused.
    """

    items: int
    refused: int


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess | SpawnProcess
    connection: Connection
    counters: Any
    task: PartTask


def run_parts(
    tasks: Sequence[PartTask], num_workers: int, report: Callable[[Progress], None] = lambda _: None
) -> None:
    """Make all parts.

    With one worker the parts are made in this process. With several, a process that is killed, for
    its memory or by a bug in a library, costs the file it was reading: the file is refused with that reason
    and the part is made again without it.

    Raises:
        DataError: the store cannot be written.
    """
    if num_workers <= 1 or len(tasks) <= 1:
        _run_here(tasks, report)
        return
    team = _Team(deque(tasks), min(num_workers, len(tasks)), report)
    try:
        team.run()
    finally:
        team.stop()


def _run_here(tasks: Sequence[PartTask], report: Callable[[Progress], None]) -> None:
    items = refused = 0

    def progress(number: int, num_refused: int) -> None:
        if number % 16 == 0:
            report(Progress(items + number, refused + num_refused))

    for task in tasks:
        try:
            refused += build_part(task, progress)
        except OSError as error:
            raise cannot_write(task.folder, error) from error
        items += task.part.size
        report(Progress(items, refused))


def cannot_write(path: object, error: OSError) -> DataError:
    """The error of a full disk or a read-only place."""
    return DataError(
        f"cannot write the store at {path}: {write_failure(Path(str(path)), error)}",
        "what was written before is intact",
        f"{'free disk space' if is_full(error) else 'choose another place'}, then run the command again",
    )


def prepare() -> Any:
    """How processes are started: not by fork, since this one may have threads.

    Where there is one, the server that they are copies of is started too: it imports the reader once for all
    while this process finds out what there is to do.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([_PRELOAD])
        # Ctrl-C reaches the server too; while it imports, Python's answer would be a traceback.
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    return context


class _Team:
    def __init__(self, waiting: deque[PartTask], size: int, report: Callable[[Progress], None]) -> None:
        self._context = prepare()
        self._waiting = waiting
        self._size = size
        self._report = report
        self._workers: list[_Worker] = []
        self._items = self._refused = 0

    def run(self) -> None:
        while self._waiting or self._workers:
            while self._waiting and len(self._workers) < self._size:
                self._start(self._waiting.popleft())
            ready = wait([worker.connection for worker in self._workers], timeout=_POLL)
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                self._hear(worker)
            self._report(
                Progress(
                    self._items + sum(worker.counters[_ITEM] for worker in self._workers),
                    self._refused + sum(worker.counters[_REFUSED] for worker in self._workers),
                )
            )

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()

    def _start(self, task: PartTask) -> None:
        here, there = self._context.Pipe()
        counters = self._context.RawArray("q", 2)
        process = self._context.Process(target=_work, args=(there, counters), daemon=True)
        process.start()
        there.close()
        here.send(task)
        self._workers.append(_Worker(process, here, counters, task))

    def _hear(self, worker: _Worker) -> None:
        """A part is finished, could not be written, or the process is dead."""
        try:
            error = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._put_back(worker)
            return
        if isinstance(error, OSError):
            raise cannot_write(worker.task.folder, error) from error
        if error is not None:
            raise error
        self._items += worker.task.part.size
        self._refused += worker.counters[_REFUSED]
        if self._waiting:
            worker.counters[_ITEM] = worker.counters[_REFUSED] = 0
            worker.task = self._waiting.popleft()
            worker.connection.send(worker.task)
        else:
            worker.connection.close()
            worker.process.join()
            self._workers.remove(worker)

    def _put_back(self, worker: _Worker) -> None:
        """Put the part of a dead process back, without the file it died of."""
        worker.process.join()
        self._workers.remove(worker)
        number = int(worker.counters[_ITEM])
        known = dict(worker.task.known_reasons)
        if number < worker.task.part.size:
            known[number] = f"the process that read it died ({cause_of_death(worker.process.exitcode)})"
        elif _WRITING in known:
            what = f"the process that writes part {worker.task.part.number} died twice"
            raise DataError(
                f"{what} ({cause_of_death(worker.process.exitcode)})", "try fewer processes: --workers 1"
            )
        else:
            known[_WRITING] = "died while the part was written"
        self._waiting.appendleft(replace(worker.task, known_reasons=known))


def _work(connection: Connection, counters: Any) -> None:
    """What a process does: one part after another, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    parent = os.getppid()

    def progress(number: int, num_refused: int) -> None:
        counters[_ITEM], counters[_REFUSED] = number, num_refused
        if os.getppid() != parent:  # the build was killed: write nothing any more
            os._exit(1)

    while True:
        answer: Exception | None = None
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            build_part(task, progress)
        except OSError as error:
            answer = OSError(error.errno, error.strerror or str(error))
        except DataError as error:
            answer = DataError(error.message, *error.hints)
        try:
            connection.send(answer)
        except OSError:  # nobody listens any more
            return
