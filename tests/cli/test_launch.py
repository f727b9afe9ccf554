"""Several processes and jobs of a cluster from one command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from esmgn_core.engine.run_folder import RunFolder

from .conftest import Esmgn

SMALL = [
    argument
    for text in (
        "seq.name=esm2_tiny",
        "struct.hidden_dim=16",
        "struct.num_layers=2",
        "data.num_proteins=10",
        "data.max_length=36",
        "train.proteins_per_batch=2",
    )
    for argument in ("--set", text)
]


def test_more_gpus_than_there_are(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert esmgn("run", "--gpus", "4") == (
        2,
        "",
        "error: --gpus 4: this machine has 0 CUDA devices\n  on the CPU: --processes N\n",
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert esmgn("run", "--gpus", "4").err.endswith("has 2 CUDA devices\n  use --gpus 2\n")


def test_starting_processes_from_a_process_is_refused(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    finished = esmgn("run", "--processes", "2")
    assert finished.status == 2
    assert "this one was started by torchrun or srun" in finished.err


def test_both_counts_at_once_are_refused(esmgn: Esmgn) -> None:
    assert "--gpus and --processes exclude each other" in esmgn("run", "--gpus", 1, "--processes", 2).err


@pytest.mark.slow
def test_a_run_of_processes_is_saved_by_a_signal_and_leaves_with_the_status_to_requeue(
    tmp_path: Path,
) -> None:
    """From the outside it is one program: SIGUSR1 to it saves within a step and status 75 comes back."""
    command = [sys.executable, "-m", "esmgn_cli", "run", "--processes", "2", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, *SMALL, "--set", "train.epochs=1000"], stderr=subprocess.PIPE, text=True
    )
    run, deadline = RunFolder(tmp_path / "run"), time.monotonic() + 150
    while len(run.read_metrics()) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors[-2000:]
    assert "stopped by signal 10" in run.log_file.read_text()
    assert run.last.is_dir()


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("status", [0, 75])
@pytest.mark.parametrize("saved", [False, True])
def test_the_job_file_starts_resumes_and_requeues(
    esmgn: Esmgn, tmp_path: Path, status: int, saved: bool
) -> None:
    """Run with stand-ins for srun, scontrol and Python that say what they were asked."""
    out = tmp_path / "my runs" / "one"
    finished = esmgn("run", "--slurm", "--gpus", 2, "--data", "a b", "--out", out)
    assert (finished.status, finished.err) == (0, "")
    assert "#SBATCH --ntasks-per-node=2 " in finished.out
    if saved:
        (out / "last").mkdir(parents=True)
    stand_ins, said = tmp_path / "bin", tmp_path / "said"
    stand_ins.mkdir()
    task = 'SLURM_PROCID=$n SLURM_LOCALID=$n SLURM_NTASKS=2 "$@" || status=$?'
    script(stand_ins, "srun", f"for n in 0 1; do {task}; done; exit $status")
    script(stand_ins, "scontrol", f'[ "$1" = show ] && echo node1 || echo "scontrol $*" >> {said}')
    script(
        stand_ins, "python", f'printf "%s|" $RANK/$WORLD_SIZE "$@" >> {said}; echo >> {said}; exit {status}'
    )
    job = tmp_path / "job.sh"
    job.write_text(finished.out.replace(sys.executable, str(stand_ins / "python")))
    environment = {"PATH": f"{stand_ins}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", str(job)], env=environment, capture_output=True, check=False)
    assert done.returncode == status
    asked = f"--resume|{out}|" if saved else f"--data|a b|--out|{out}|"
    assert said.read_text().splitlines() == [
        f"0/2|-m|esmgn_cli|run|{asked}",
        f"1/2|-m|esmgn_cli|run|{asked}",
        *["scontrol requeue 7"] * (status == 75),
    ]


def test_a_job_file_needs_a_run_folder(esmgn: Esmgn) -> None:
    finished = esmgn("run", "--slurm")
    assert (finished.status, finished.out) == (2, "")
    assert finished.err.endswith("  name it: --out DIR\n")
