"""A library that crashes or hangs costs a call, not the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from esmgn_core.machine import child
from esmgn_core.machine.child import ChildError, call


def test_one_child_answers_all_calls():
    first = call(os.getpid)
    assert first != os.getpid()
    assert call(os.getpid) == first
    assert call(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (os.abort, (), "the process died: SIGABRT"),
        (os._exit, (3,), "the process died: exit status 3"),
        (time.sleep, (60,), "no answer within 0 s"),
    ],
)
def test_a_call_that_crashes_or_hangs_is_an_error_and_the_next_one_works(function, argument, reason):
    call(os.getpid)
    with pytest.raises(ChildError, match=reason):
        call(function, *argument, limit=0.2)
    assert call(divmod, 7, 2) == (3, 1)


def test_memory_is_limited():
    with pytest.raises(ChildError, match="needs more than 4 GiB of memory"):
        call(bytearray, 5 << 30)
    assert call(divmod, 7, 2) == (3, 1)


def test_errors_of_the_function_are_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        call(int, "x")


def test_relative_paths_start_from_the_folder_of_the_parent(tmp_path, monkeypatch):
    """The parent may change its folder after the child started."""
    call(os.getcwd)
    monkeypatch.chdir(tmp_path)
    assert call(os.getcwd) == str(tmp_path)


def test_a_child_that_died_between_two_calls_is_replaced():
    os.kill(call(os.getpid), signal.SIGKILL)
    time.sleep(0.05)
    assert call(divmod, 7, 2) == (3, 1)


def test_an_interrupted_call_does_not_answer_the_next_one(monkeypatch):
    call(os.getpid)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiprocessing.connection.Connection.poll", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(divmod, 9, 2)
    monkeypatch.undo()
    assert call(divmod, 7, 2) == (3, 1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_child_of_its_own():
    ours = call(os.getpid)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, str(call(os.getpid)).encode())
            child.stop()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    assert theirs not in (ours, os.getpid(), pid)
    assert call(os.getpid) == ours


def test_the_child_ends_with_its_process():
    code = "import os; from esmgn_core.machine.child import call; print(call(os.getpid), flush=True); "
    for ending in ("", "os.kill(os.getpid(), 9)"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code + ending], capture_output=True, text=True
        )
        assert not done.stderr
        for _ in range(100):
            if not is_running(int(done.stdout)):
                break
            time.sleep(0.02)
        assert not is_running(int(done.stdout))


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
