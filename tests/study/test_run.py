"""Running the cells of a study: order, failures, stops and what is not run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esmgn_core.errors import RunError
from esmgn_core.study.folder import State, StudyFolder
from esmgn_core.study.plan import Cell
from esmgn_core.study.run import Places, run_cells

from .conftest import fake


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def run(
    cells: list[Cell], folder: StudyFolder, *, jobs: int = 2, retry: bool = False
) -> list[tuple[str, State]]:
    """Run the cells with the fake program; returns the reported states."""
    reported: list[tuple[str, State]] = []
    run_cells(
        cells,
        folder,
        fake,
        Places(jobs),
        lambda cell, state, _: reported.append((cell.id, state)),
        retry=retry,
    )
    return reported


def arguments(folder: StudyFolder, cell: Cell) -> list[str]:
    return (folder.run(cell).path / "arguments.txt").read_text().splitlines()


def test_a_cell_runs_after_the_one_it_starts_from(cells: list[Cell], folder: StudyFolder) -> None:
    reported = run(cells, folder)
    assert [folder.state(cell) for cell in cells] == ["done"] * 4
    for cell in cells:
        if cell.parent:
            assert reported.index((cell.parent.id, "done")) < reported.index((cell.id, "running"))
            assert arguments(folder, cell)[0].endswith(f"--init {folder.run(cell.parent).path}")


def test_done_cells_are_not_run_again(cells: list[Cell], folder: StudyFolder) -> None:
    run(cells[:2], folder)
    reported = run(cells, folder)
    assert {name for name, _ in reported} == {cell.id for cell in cells[2:]}
    assert run(cells, folder) == []


def test_a_failed_cell_is_recorded_and_the_others_go_on(
    cells: list[Cell], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", f"if {cells[0].id!r} in str(folder): print('no luck'); sys.exit(2)")
    run(cells, folder)
    states = {cell.id: folder.state(cell) for cell in cells}
    assert states[cells[0].id] == "failed"
    assert states[cells[1].id] == "done"
    assert [states[cell.id] for cell in cells if cell.parent is cells[0]] == ["waiting"]
    assert "exit status 2" in folder.failure(cells[0]).read_text()
    assert "no luck" in folder.failure(cells[0]).read_text()
    assert run(cells, folder) == []
    monkeypatch.delenv("FAKE")
    run(cells, folder, retry=True)
    assert [folder.state(cell) for cell in cells] == ["done"] * 4
    assert not folder.failure(cells[0]).exists()


def test_a_run_that_ends_without_finishing_has_failed(
    cells: list[Cell], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "sys.exit(0)")
    run(cells[:1], folder)
    assert folder.state(cells[0]) == "failed"


def test_a_stopped_run_is_resumed_if_it_has_a_checkpoint(
    cells: list[Cell], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "sys.exit(75)")
    run(cells[:1], folder)
    assert folder.state(cells[0]) == "stopped"
    (folder.run(cells[0]).path / "last").mkdir()
    monkeypatch.delenv("FAKE")
    run(cells[:1], folder)
    first, second = arguments(folder, cells[0])
    assert "--out" in first
    assert second == f"--resume {folder.run(cells[0]).path}"


def test_a_folder_without_a_checkpoint_is_started_again(cells: list[Cell], folder: StudyFolder) -> None:
    (path := folder.run(cells[0]).path).mkdir(parents=True)
    (path / "config.toml").write_text("cut off")
    run(cells[:1], folder)
    assert folder.state(cells[0]) == "done"
    assert not (path / "config.toml").exists()


def test_only_so_many_cells_run_at_a_time_and_gpus_are_divided(
    cells: list[Cell], folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "FAKE", "(folder / 'gpus').write_text(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.3)"
    )
    reported: list[State] = []
    most = 0

    def report(cell: Cell, state: State, seconds: float) -> None:  # noqa: ARG001 - the signature of a report
        nonlocal most
        reported.append(state)
        most = max(most, 2 * reported.count("running") - len(reported))

    run_cells(cells, folder, fake, Places(2, (4, 5, 6, 7)), report, retry=False)
    gpus = [(folder.run(cell).path / "gpus").read_text() for cell in cells]
    assert set(gpus) == {"4,5", "6,7"}
    assert most == 2


def test_a_second_process_is_refused(folder: StudyFolder) -> None:
    with folder.locked(), pytest.raises(RunError, match="another process runs the study"):
        StudyFolder(folder.path).locked().__enter__()


SCRIPT = """
import sys
from pathlib import Path
from esmgn_core.host.registry import discover
from esmgn_core.errors import RunError
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.plan import Study
from esmgn_core.study.run import Places, run_cells
sys.path.insert(0, {root!r})
from tests.study.conftest import TINY, fake
cells = Study.of(TINY, origin="tiny.toml", name="tiny").cells(discover())
run_cells(cells, StudyFolder(Path({folder!r})), fake, Places(2), lambda *_: None, retry=False)
"""


def test_a_killed_study_continues(cells: list[Cell], folder: StudyFolder) -> None:
    """With ``kill -9``, while two cells run; the same call finishes all."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "FAKE": "time.sleep(1)"}
    script = SCRIPT.format(root=root, folder=str(folder.path))
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    deadline = time.monotonic() + 60
    while not all(folder.run(cell).path.is_dir() for cell in cells[:2]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)  # the two runs end by themselves
    assert [folder.state(cell) for cell in cells] == ["done", "done", "waiting", "waiting"]
    run(cells, folder)
    assert [folder.state(cell) for cell in cells] == ["done"] * 4
