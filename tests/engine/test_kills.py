"""``kill -9`` at any moment costs nothing; ``benchmarks/kill_and_resume.py`` does it more often."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from esmgn_core import hookimpl
from esmgn_core.engine.session import resume_run
from esmgn_core.host.configure import parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.run_folder import RunFolder

from .conftest import Start
from .processes import Job, start_together
from .test_run import losses, same_tensors

COMMON = (
    "train.max_steps=9",
    "train.epochs=9",
    "train.accumulate=2",
    "optim.ema_decay=0.9",
    "optim.eps=0.001",
)
SECONDS = 120


def kill_after(job: Job, lines: int, *, world_size: int, victims: slice, wait: float) -> None:
    """Start a run, wait until it has logged so many steps, and kill some of its processes."""
    processes = start_together([job], world_size=world_size)
    deadline = time.monotonic() + SECONDS
    while len(RunFolder(job.out).read_metrics()) < lines and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait)
    for process in processes[victims]:
        process.kill()
    for process in processes:  # those that are left fail, since the others no longer answer
        process.join(SECONDS)
        assert process.exitcode != 0


def test_killed_again_and_again_a_run_ends_with_the_same_bits(start: Start, tmp_path: Path) -> None:
    whole = start(*COMMON, "train.proteins_per_batch=2", out="whole").run
    folder, everything = tmp_path / "killed", slice(None)
    changes = (*COMMON, "train.proteins_per_batch=2")
    kill_after(Job(changes, folder), 3, world_size=1, victims=everything, wait=0.03)
    again = Job(("train.max_steps=9",), folder, resume=True)
    kill_after(again, 6, world_size=1, victims=everything, wait=0.07)
    resumed = resume_run(discover(), folder, changes={}).run
    assert losses(resumed) == losses(whole)
    assert same_tensors(resumed.last / "model.safetensors", whole.last / "model.safetensors")
    assert same_tensors(resumed.model, whole.model)


def test_a_run_that_lost_one_of_two_processes_goes_on_in_one(start: Start, tmp_path: Path) -> None:
    """To 1e-5 of the largest weight of each tensor; one pass a step, for equal batch statistics."""
    changes = (*COMMON, "train.accumulate=1")
    whole = start(*changes, "train.proteins_per_batch=4", out="whole").run
    job = Job((*changes, "train.proteins_per_batch=2"), tmp_path / "killed")
    kill_after(job, 4, world_size=2, victims=slice(1, 2), wait=0.05)
    log = RunFolder(job.out).log_file.read_text()
    assert re.search(r"process 0 lost contact to another: RuntimeError .*\n.*  failed: another process", log)
    alone = parse_assignments(["train.proteins_per_batch=4"])
    resumed = resume_run(discover(), job.out, changes=alone).run
    one, other = (load_file(run.last / "model.safetensors") for run in (whole, resumed))
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() <= 1e-5 * tensor.abs().max() + 1e-8, name


class Impatient:
    """An observer that presses Ctrl-C twice within a step."""

    @hookimpl
    def esmgn_metrics_logged(self, step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_stops_at_once_and_the_run_resumes_from_its_last_checkpoint(start: Start) -> None:
    whole = start(out="whole").run
    observer = Impatient()
    discover().manager.register(observer)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(out="stopped")
    finally:
        discover().manager.unregister(observer)
    run = RunFolder(whole.path.parent / "stopped")
    assert losses(resume_run(discover(), run.path, changes={}).run) == losses(whole)
