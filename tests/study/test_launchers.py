"""Cells as job arrays of SLURM and as tasks of Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esmgn_core.errors import DataError
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.launchers import ray_launcher, write_slurm_jobs
from esmgn_core.study.plan import Cell
from esmgn_core.study.run import Places, run_cells

from .conftest import fake


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "a study")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``sbatch`` and ``scontrol`` that write down how they were called."""
    place = tmp_path / "bin"
    place.mkdir()
    calls = tmp_path / "calls.txt"
    for name in ("sbatch", "scontrol"):
        program = place / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> "{calls}"\necho $(wc -l < "{calls}")\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return calls


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_stage_is_an_array_that_waits_for_the_one_before(
    cells: list[Cell], folder: StudyFolder, programs: Path
) -> None:
    script = write_slurm_jobs(cells, folder, ["esmgn", "--cell"], jobs=3, gpus=2)
    submitted = subprocess.run(["bash", script], check=True, capture_output=True, text=True)
    assert submitted.stdout == "2 cells: job 1\n2 cells: job 2\n"
    first, second = programs.read_text().splitlines()
    assert first == f"sbatch --parsable {script.parent / 'array-1.sbatch'}"
    assert second == f"sbatch --parsable --dependency=afterany:1 {script.parent / 'array-2.sbatch'}"
    names = [(script.parent / f"cells-{number}.txt").read_text().split() for number in (1, 2)]
    assert names == [[cell.id for cell in cells[:2]], [cell.id for cell in cells[2:]]]
    job = (script.parent / "array-1.sbatch").read_text()
    assert "#SBATCH --array=1-2%3\n" in job
    assert "#SBATCH --gpus=2\n" in job


def run_task(script: Path, number: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "7"}
    job = ["bash", str(script.parent / "array-1.sbatch")]
    return subprocess.Popen(job, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("status", [0, 1, 75])
def test_a_task_runs_its_cell_and_a_stopped_one_is_queued_again(
    cells: list[Cell], folder: StudyFolder, programs: Path, status: int
) -> None:
    code = f"import sys; print(sys.argv[1]); sys.exit({status})"
    script = write_slurm_jobs(cells, folder, python(code), jobs=1, gpus=1)
    task = run_task(script, 2)
    out, _ = task.communicate(timeout=60)
    assert out.splitlines()[0] == cells[1].id
    assert task.returncode == status
    requeued = programs.read_text() if programs.exists() else ""
    assert requeued == ("scontrol requeue 7_2\n" if status == 75 else "")


def test_a_task_forwards_the_signal_before_its_end(
    cells: list[Cell], folder: StudyFolder, programs: Path
) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    script = write_slurm_jobs(cells, folder, python(code), jobs=1, gpus=1)
    task = run_task(script, 1)
    assert task.stdout is not None
    assert task.stdout.readline() == "ready\n"
    time.sleep(0.3)  # until the shell waits
    task.send_signal(signal.SIGUSR1)
    task.communicate(timeout=30)
    assert task.returncode == 75
    assert programs.read_text() == "scontrol requeue 7_1\n"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match=r"pip install 'esmgn\[ray\]'"), ray_launcher(1, 0):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cells_run_as_tasks_of_ray(
    cells: list[Cell], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("FAKE", f"if {cells[0].id!r} in str(folder): sys.exit(3)")
    with ray_launcher(2, 0) as launch:
        run_cells(cells, folder, fake, Places(2), lambda *_: None, retry=False, launch=launch)
    states = [folder.state(cell) for cell in cells]
    assert sorted(states) == ["done", "done", "failed", "waiting"]
