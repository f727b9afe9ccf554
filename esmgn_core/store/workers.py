"""Build parts of a plan in several processes; a process that dies costs only the file it was reading."""

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

_POLL = 0.25  # seconds between progress reports
_ITEM, _REFUSED = 0, 1  # indices of the counters of a worker
_WRITING = -1  # key of ``known_reasons`` for a process that died while it wrote its part
_PRELOAD = "esmgn_core.store.workers"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a build.

    Attributes:
        items: number of items read, in finished and current parts.
        refused: number of them that were refused.
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
    """Build all parts.

    With one worker the parts are built in this process. With several, a process may be killed, by lack of
    memory or by a bug in a library. Then the file that it was reading is refused with that reason, and the
    part is built again without the file.

    Raises:
        DataError: the store cannot be written.
    """
    if num_workers <= 1 or len(tasks) <= 1:
        _run_here(tasks, report)
        return
    pool = _Pool(deque(tasks), min(num_workers, len(tasks)), report)
    try:
        pool.run()
    finally:
        pool.stop()


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
    """Return the error for a full disk or a read-only folder."""
    return DataError(
        f"cannot write the store at {path}: {write_failure(Path(str(path)), error)}",
        "everything written before is intact",
        f"{'free disk space' if is_full(error) else 'choose another place'}, then run the command again",
    )


def prepare() -> Any:
    """Return the context that starts processes: not by fork, since this process may have threads.

    If the system has a fork server, it is started now. It imports the readers once for all processes while
    this process searches for files.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([_PRELOAD])
        # Ctrl-C reaches the server too, which would print a traceback during its imports.
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    return context


class _Pool:
    """Worker processes and the parts that wait for them.

    Protocol: this process sends a task. The worker answers ``None`` or an exception once the part is done. In
    the meantime it writes its current item and its refusals into shared counters. If the connection breaks,
    the worker died, and the counters name the item that it was reading.
    """

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
                self._handle_answer(worker)
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
        connection, remote = self._context.Pipe()
        counters = self._context.RawArray("q", 2)
        process = self._context.Process(target=_work, args=(remote, counters), daemon=True)
        process.start()
        remote.close()  # so that the end of the process closes the connection
        connection.send(task)
        self._workers.append(_Worker(process, connection, counters, task))

    def _handle_answer(self, worker: _Worker) -> None:
        """Handle a finished part, a part that could not be written, or a dead process."""
        try:
            error = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._requeue(worker)
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

    def _requeue(self, worker: _Worker) -> None:
        """Queue the part of a dead process again, without the file that it was reading."""
        worker.process.join()
        self._workers.remove(worker)
        number = int(worker.counters[_ITEM])
        known = dict(worker.task.known_reasons)
        if number < worker.task.part.size:
            known[number] = f"the process that read it died ({cause_of_death(worker.process.exitcode)})"
        elif _WRITING in known:
            problem = f"the process that writes part {worker.task.part.number} died twice"
            raise DataError(
                f"{problem} ({cause_of_death(worker.process.exitcode)})", "try fewer processes: --workers 1"
            )
        else:
            known[_WRITING] = "died while the part was written"
        self._waiting.appendleft(replace(worker.task, known_reasons=known))


def _work(connection: Connection, counters: Any) -> None:
    """Build one part after another in a worker process, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    parent = os.getppid()

    def progress(number: int, num_refused: int) -> None:
        counters[_ITEM], counters[_REFUSED] = number, num_refused
        if os.getppid() != parent:  # the build was killed: write nothing more
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
        except OSError:  # the main process ended
            return
