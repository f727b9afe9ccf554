"""Processes that torchrun starts and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esmgn_core.run_folder import RunFolder

from .conftest import SMALL

_SETTINGS = [argument for text in SMALL for argument in ("--set", text)]


def torchrun(folder: Path, *changes: str) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "esmgn_cli", "run"]
    return [*command, *_SETTINGS, *(a for text in changes for a in ("--set", text)), "--out", str(folder)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_signal_to_all_processes_saves_and_the_run_can_go_on_in_one(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    changes = ("train.proteins_per_batch=2", "train.epochs=40", "train.checkpoint_every=1000")
    process = subprocess.Popen(
        torchrun(folder, *changes),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = RunFolder(folder)
    deadline = time.monotonic() + 120
    while len(metrics.read_metrics()) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in errors.split("torch/distributed")[0], errors[-3000:]
    saved = len(metrics.read_metrics())
    assert (folder / "last" / "state.pt").exists(), errors[-3000:]
    from esmgn_core.engine.session import resume_run
    from esmgn_core.host.registry import discover

    resumed = resume_run(
        discover(), folder, changes={"train": {"max_steps": saved + 2, "proteins_per_batch": 4}}
    )
    assert resumed.progress.step == saved + 2
    assert [line["step"] for line in resumed.run.read_metrics()] == list(range(1, saved + 3))
