"""A child process for libraries that crash or hang on damaged files.

Each process has at most one child. It serves call after call and keeps what it has opened. A call that
crashes or takes too long ends the child, not this process. The next call starts another.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIMIT = 30.0
"""Default time limit of a call, in seconds."""

_BYTES_PER_SECOND = 10e6  # slower than any disk in use
_MAX_MEMORY = 4 << 30
_GRACE = 5.0
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from esmgn_core.machine.child import serve; serve(int(sys.argv[1]))"
)


class ChildError(Exception):
    """The child died or did not answer in time; the message names the cause."""


def limit_for(path: Path) -> float:
    """Time limit in seconds for a call that reads a whole file."""
    with contextlib.suppress(OSError):
        return LIMIT + path.stat().st_size / _BYTES_PER_SECOND
    return LIMIT


def call(function: Callable[..., Any], *args: Any, limit: float | None = None) -> Any:
    """Call a function in the child.

    Args:
        function: a function of a module; the child imports it by name.
        args: its arguments; they and the result are pickled.
        limit: seconds until the child is killed; :data:`LIMIT` by default.

    Raises:
        ChildError: the call crashed, took too long or needed more than 4 GiB of memory.
        Exception: raised by the function; errors of other libraries become ``RuntimeError``.
    """
    global _child
    with _lock:
        if _child is None or not _child.is_alive:
            _child = _Child()
        return _child.call(function, args, LIMIT if limit is None else limit)


def cause_of_death(exit_code: int | None) -> str:
    """Name of the signal that ended a process, or its exit status."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}, often because memory ran out" if name == "SIGKILL" else name
    return f"exit status {exit_code}"


class _Child:
    def __init__(self) -> None:
        self._connection, child_end = Pipe()
        # subprocess, not multiprocessing: build workers are daemons, which may not start multiprocessing
        # processes, and a script without a __main__ guard would run again in the child.
        self._process = subprocess.Popen(  # noqa: S603 - Python itself
            [sys.executable, "-c", _START, str(child_end.fileno()), json.dumps(sys.path)],
            pass_fds=[child_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach the parent only
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        child_end.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], limit: float) -> Any:
        try:
            self._connection.send((function, args, limit, _working_folder()))
            if not self._connection.poll(limit):
                raise ChildError(f"no answer within {limit:.0f} s")  # noqa: TRY301
            is_result, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.wait()
            raise ChildError(f"the process died: {cause_of_death(self._process.returncode)}") from error
        except BaseException:  # a late answer must not become the answer to the next call
            self.stop()
            raise
        if is_result:
            return answer
        raise answer

    def stop(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Drop the child after a fork; it belongs to the parent process."""
        self._connection.close()
        self._process.returncode = (
            0  # or its destructor would wait for a process that is not a child of this one
        )


_child: _Child | None = None
_lock = threading.Lock()


def stop() -> None:
    """End the child of this process, if it has one."""
    global _child
    with _lock:
        if _child is not None:
            _child.stop()
        _child = None


def _after_fork() -> None:
    global _child, _lock
    if _child is not None:
        _child.forget()
    _child, _lock = None, threading.Lock()


atexit.register(stop)
os.register_at_fork(after_in_child=_after_fork)


def _working_folder() -> str | None:
    """The current folder; ``None`` if it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


def serve(descriptor: int) -> None:
    """Answer the calls from a pipe's file descriptor until its other end is closed."""
    connection = Connection(descriptor)
    with contextlib.suppress(ValueError, OSError):  # the user has set a lower limit
        resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _answer(message)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            connection.send(answer)
        except OSError:
            return


def _answer(message: bytes) -> tuple[bool, Any]:
    try:
        function, args, limit, folder = pickle.loads(message)  # noqa: S301 - from the parent
        if folder is not None:  # the parent may have changed it since the child started
            os.chdir(folder)
        # An alarm without a handler ends the process even if a library hangs, where no Python code runs. It
        # also ends a child whose parent died.
        signal.setitimer(signal.ITIMER_REAL, limit + _GRACE)
        return True, function(*args)
    except MemoryError:
        return False, ChildError(f"needs more than {_MAX_MEMORY >> 30} GiB of memory")
    except Exception as error:  # noqa: BLE001 - the parent raises it
        if type(error).__module__.partition(".")[0] in ("builtins", "esmgn_core"):
            return False, error
        return False, RuntimeError(f"{type(error).__name__}: {error}")
