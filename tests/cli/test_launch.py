"""Several processes and jobs of a cluster from one command."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from esmgn_cli import launch
from esmgn_core.run_folder import RunFolder

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


def test_more_gpus_than_available(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "cannot be used under torchrun or srun, which start the processes" in finished.err


def test_both_counts_at_once_are_refused(esmgn: Esmgn) -> None:
    assert "--gpus and --processes cannot be combined" in esmgn("run", "--gpus", 1, "--processes", 2).err


@pytest.mark.slow
def test_a_run_of_processes_is_saved_by_a_signal_and_leaves_with_the_status_to_requeue(
    tmp_path: Path,
) -> None:
    """It behaves as one program: after SIGUSR1 it saves within a step and ends with status 75."""
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


SHORT = """
import os
import torch
from esmgn_core import ComponentSpec, Kind, hookimpl
from esmgn_pretext.residue_type import ResidueType

@hookimpl
def esmgn_components():
    return [ComponentSpec(Kind.PRETEXT, "short", "short_of_memory:Short", "Does not fit into the second GPU")]

class Short(ResidueType):
    def loss(self, views, encodings):
        if self.training and os.environ["RANK"] == "1" and len(views[0].batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().loss(views, encodings)
"""


@pytest.mark.slow
def test_a_run_of_processes_that_falls_short_of_memory_starts_itself_again(tmp_path: Path) -> None:
    """A stranger's task needs more than the second process has, as long as it sees two proteins at a time."""
    plugin, run = tmp_path / "plugin", RunFolder(tmp_path / "run")
    (plugin / "short-1.dist-info").mkdir(parents=True)
    (plugin / "short-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: short\nVersion: 1\n")
    (plugin / "short-1.dist-info" / "entry_points.txt").write_text("[esmgn]\nshort = short_of_memory\n")
    (plugin / "short_of_memory.py").write_text(SHORT)
    command = [sys.executable, "-m", "esmgn_cli", "run", "--processes", "2", "--pretext", "short"]
    done = subprocess.run(
        [*command, "--out", str(run.path), *SMALL, "--set", "train.max_steps=3"],
        env={**os.environ, "PYTHONPATH": str(plugin), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"out of memory: resuming {run.path} from its last checkpoint with smaller passes" in done.stderr
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    assert "resumed at step 0 of 3" in run.log_file.read_text()
    assert "Traceback" not in done.stderr


def test_after_a_killed_main_process_the_launcher_names_the_command_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot report this itself, and the other processes do not know."""
    run = tmp_path / "my run"
    (run / "last").mkdir(parents=True)

    def killed(number: int, arguments: Sequence[str], report: Path) -> int:  # noqa: ARG001
        report.write_text(json.dumps({"run": str(run), "started": 0, "pid": 1}))
        return 1

    monkeypatch.setattr(launch, "_torchrun", killed)
    monkeypatch.setattr(sys, "argv", ["esmgn", "run", "--processes", "2"])
    assert launch.run_processes(2, on_cpu=True) == 1
    assert capsys.readouterr().err == (
        "the main process of the run was killed\n"
        f"  resume from its last checkpoint: esmgn run --resume '{run}'\n"
    )


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("status", "short", "requeued"),
    [(0, False, False), (75, False, True), (2, False, False), (2, True, True)],
    ids=["finished", "preempted", "failed", "out-of-memory"],
)
@pytest.mark.parametrize("saved", [False, True])
def test_the_job_file_starts_resumes_and_requeues(
    esmgn: Esmgn, tmp_path: Path, status: int, short: bool, requeued: bool, saved: bool
) -> None:
    """Run with scripts instead of srun, scontrol and Python, which record their arguments."""
    out = tmp_path / "my runs" / "one"
    finished = esmgn("run", "--slurm", "--gpus", 2, "--data", "a b", "--out", out)
    assert (finished.status, finished.err) == (0, "")
    assert "#SBATCH --ntasks-per-node=2 " in finished.out
    out.mkdir(parents=True)
    if saved:
        (out / "last").mkdir()
        (out / "out_of_memory.json").touch()
        os.utime(out / "out_of_memory.json", (0, 0))
    scripts, said = tmp_path / "bin", tmp_path / "said"
    scripts.mkdir()
    task = 'SLURM_PROCID=$n SLURM_LOCALID=$n SLURM_NTASKS=2 "${@:2}" || status=$?'
    script(scripts, "srun", f'echo "srun $1" >> {said}; for n in 0 1; do {task}; done; exit $status')
    script(scripts, "scontrol", f'[ "$1" = show ] && echo node1 || echo "scontrol $*" >> {said}')
    record = f'touch "{out}/out_of_memory.json";' * short
    say = f'printf "%s|" $RANK/$WORLD_SIZE "$@" >> {said}; echo >> {said}'
    script(scripts, "python", f"{say}; {record} exit {status}")
    job = tmp_path / "job.sh"
    job.write_text(finished.out.replace(sys.executable, str(scripts / "python")))
    environment = {"PATH": f"{scripts}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", str(job)], env=environment, capture_output=True, check=False)
    assert done.returncode == (75 if requeued else status)
    expected = f"--resume|{out}|" if saved else f"--data|a b|--out|{out}|"
    assert said.read_text().splitlines() == [
        "srun --kill-on-bad-exit=1",
        f"0/2|-m|esmgn_cli|run|{expected}",
        f"1/2|-m|esmgn_cli|run|{expected}",
        *["scontrol requeue 7"] * requeued,
    ]
    assert [path.name for path in out.parent.iterdir()] == ["one"]


def test_a_job_file_needs_a_run_folder(esmgn: Esmgn) -> None:
    finished = esmgn("run", "--slurm")
    assert (finished.status, finished.out) == (2, "")
    assert finished.err.endswith("  name it: --out DIR\n")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Arguments of the runs that were started; each fails and writes ``outcome``."""
    calls: list[list[str]] = []

    def fail(number: int, arguments: Sequence[str], report: Path) -> int:  # noqa: ARG001
        calls.append(list(arguments))
        if len(calls) > 5:
            pytest.fail("started again and again")
        said = {"run": os.environ["LAUNCHED_RUN"], "started": 2_000, "status": 3}
        report.write_text(json.dumps(said))
        return 1

    monkeypatch.setattr(launch, "_torchrun", fail)
    return calls


@pytest.mark.parametrize(("recorded", "num_starts"), [(1_000, 1), (3_000, 6)])
def test_a_run_starts_again_only_after_a_new_shortage_of_memory(
    launched: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: int,
    num_starts: int,
) -> None:
    """A record of an earlier shortage must not restart a run that fails for another reason for ever."""
    (tmp_path / "last").mkdir()
    (tmp_path / "out_of_memory.json").touch()
    os.utime(tmp_path / "out_of_memory.json", ns=(recorded, recorded))
    monkeypatch.setenv("LAUNCHED_RUN", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["esmgn", "run", "--processes", "2", "--seq", "esm2_tiny"])
    if num_starts > 1:
        with pytest.raises(pytest.fail.Exception, match="started again and again"):
            launch.run_processes(2, on_cpu=True)
        assert launched[1] == ["run", "--resume", str(tmp_path)]
    else:
        assert launch.run_processes(2, on_cpu=True) == 3
    assert len(launched) == num_starts


@pytest.mark.parametrize(
    ("arguments", "on_cpu", "expected"),
    [
        (["--gpus", "2", "--seq", "esm2_tiny"], False, ["--seq", "esm2_tiny"]),
        (["--processes=2"], True, ["--set", "train.device=cpu"]),
        (["--processes", "2", "--resume", "R"], True, ["--resume", "R"]),
    ],
    ids=["gpus", "processes", "resumed"],
)
def test_processes_of_a_run_get_its_arguments_and_only_those_without_gpus_the_cpu(
    launched: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    on_cpu: bool,
    expected: list[str],
) -> None:
    monkeypatch.setenv("LAUNCHED_RUN", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["esmgn", "run", *arguments])
    launch.run_processes(2, on_cpu=on_cpu)
    assert launched == [["run", *expected]]


@pytest.mark.parametrize(("flag", "on_cpu"), [("--gpus", False), ("--processes", True)])
def test_gpus_run_on_gpus_and_processes_on_the_cpu(
    esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch, flag: str, on_cpu: bool
) -> None:
    started: list[tuple[int, bool]] = []

    def note(number: int, *, on_cpu: bool) -> int:
        started.append((number, on_cpu))
        return 0

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("esmgn_cli.run_command.run_processes", note)
    assert esmgn("run", flag, 3).status == 0
    assert started == [(3, on_cpu)]
