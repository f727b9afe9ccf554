"""What a run shows while it goes and when it ends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer
from rich.console import Console

from esmgn_cli.progress import ProgressDisplay, finish, progress_shown
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.engine.session import Outcome
from esmgn_core.engine.state import Progress
from esmgn_core.registry import discover

VALUES = {"epoch": 1, "loss": 2.5, "accuracy": 0.125, "residues_per_second": 12345.6}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def shown(run: RunFolder, *, terminal: bool, steps: range, total: int = 100, first: int = 0) -> str:
    """What the display writes while a run takes ``steps``."""
    file = io.StringIO()
    display = ProgressDisplay(Console(file=file, force_terminal=terminal, width=200))
    display.esmgn_run_started(run, total_steps=total, first_step=first)
    for step in steps:
        display.esmgn_metrics_logged(step, VALUES)
    display.esmgn_run_finished()
    return file.getvalue()


def test_plain_lines_where_there_is_no_terminal(run: RunFolder) -> None:
    """The first step, the last one, and one every ten seconds."""
    values = "loss 2.5000  accuracy 0.1250  12,346 residues/s"
    assert shown(run, terminal=False, steps=range(1, 101)).splitlines() == [
        f"run folder {run.path}, 100 steps",
        f"step 1/100  {values}",
        f"step 100/100  {values}",
    ]


def test_a_resumed_run_speaks_at_once(run: RunFolder) -> None:
    lines = shown(run, terminal=False, steps=range(41, 44), first=40).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["41/100"]


def test_a_bar_on_a_terminal(run: RunFolder) -> None:
    text = shown(run, terminal=True, steps=range(1, 4))
    assert "3/100" in text
    assert "step 3/100" not in text
    assert "loss 2.5000" in text


@pytest.mark.usefixtures("clean_environment")
def test_the_display_observes_only_within_the_block() -> None:
    hooks = discover().manager.hook
    with progress_shown(discover()):
        assert len(hooks.esmgn_metrics_logged.get_hookimpls()) == 1
    assert hooks.esmgn_metrics_logged.get_hookimpls() == []


def outcome(run: RunFolder, *, step: int = 4, signal: int = 0, is_main: bool = True) -> Outcome:
    for number in range(1, step + 1):
        run.append_metrics(number, {"epoch": 1, "loss": 3.0 / number, "residues_per_second": 1234.5})
    progress = Progress(step=step, best_step=2, best_loss=1.5)
    return Outcome(run, progress, num_steps=4, signal=signal, is_main=is_main)


def test_a_finished_run_ends_with_a_table_and_the_next_commands(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(outcome(run))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].split() == ["step", "epoch", "loss", "residues/s"]
    assert [line.split() for line in lines[1:5]] == [
        ["1", "1", "3.0000", "1234"],
        ["2", "1", "1.5000", "1234"],
        ["3", "1", "1.0000", "1234"],
        ["4", "1", "0.7500", "1234"],
    ]
    assert lines[5:] == [
        "",
        f"finished 4 steps; run folder: {run.path}",
        f"best encoder (step 2): {run.model}",
        f"repeat it: esmgn run {run.config}",
    ]


def test_made_up_proteins_are_called_so_and_real_ones_come_next(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(outcome(run), made_up=True)
    assert capsys.readouterr().out.endswith(
        "\nthese proteins were made up. Your own structures with the published weights:\n"
        "  esmgn run --seq esm2_650m --struct gearnet --fuse serial --data FOLDER_OF_PDB_FILES\n"
    )


def test_files_left_out_are_named(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.refused.write_text("path\treason\n")
    finish(outcome(run))
    assert f"structure files left out, with reasons: {run.refused}\n" in capsys.readouterr().out


def test_the_table_of_a_long_run_is_short(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    finish(outcome(run, step=1000))
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "144", "286", "429", "572", "715", "857", "1000"]


@pytest.mark.parametrize(("signal", "status"), [(2, 130), (15, 143)])
def test_a_stopped_run_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signal: int, status: int
) -> None:
    (tmp_path / "my run").mkdir()
    with pytest.raises(typer.Exit) as ended:
        finish(outcome(RunFolder(tmp_path / "my run"), step=3, signal=signal))
    assert ended.value.exit_code == status
    assert capsys.readouterr().out.endswith(
        f"\nstopped and saved at step 3 of 4\ngo on: esmgn run --resume '{tmp_path}/my run'\n"
    )


def test_other_processes_are_silent_and_end_alike(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    finish(outcome(run, is_main=False))
    with pytest.raises(typer.Exit) as ended:
        finish(outcome(run, signal=15, is_main=False))
    assert ended.value.exit_code == 143
    assert capsys.readouterr() == ("", "")
