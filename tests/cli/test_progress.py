"""What a run shows when it ends."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from esmgn_cli.progress import (
    ProgressDisplay,
    _composition,
    _LossCurve,
    _print_losses,
    _print_report,
    _program,
)
from esmgn_core.engine.selection import Selection


def rows(capsys: pytest.CaptureFixture[str], lines: list[dict[str, float]]) -> list[list[str]]:
    _print_losses(lines)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_rows_are_means_over_the_steps_since_the_row_before(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"step": n, "epoch": 1, "loss": float(n)} for n in range(1, 17)]
    header, first, *_, last = rows(capsys, lines)
    assert header == ["step", "epoch", "loss"]
    assert first == ["2", "1", "1.5000"]
    assert last == ["16", "1", "15.5000"]


def test_every_step_of_a_short_run_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, float]] = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "valid_loss": 2.5}]
    assert rows(capsys, lines)[1:] == [["1", "3.0000"], ["2", "2.0000", "2.5000"]]


def test_the_validation_that_selected_the_encoder_ends_a_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Validations are not averaged: the row of step 5 has its value, the others the last one before."""
    lines = [{"step": n, "loss": 3.0, "valid_loss": 2.0 if n == 5 else 2.5 + n / 100} for n in range(1, 41)]
    _print_losses(lines, Selection(5, "valid_loss", 2.0))
    header, first, *others = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == ["step", "loss", "validation", "loss"]
    assert first == ["5", "3.0000", "2.0000", "best"]
    assert [row[0] for row in others] == ["10", "15", "20", "25", "30", "35", "40"]
    assert others[-1] == ["40", "3.0000", "2.9000"]
    _print_losses(lines, Selection(7, "valid_loss", 2.57))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["7", "3.0000", "2.5700", "best"]


def test_the_curve_shows_all_of_a_long_run() -> None:
    """A loss that falls to a half in 10,000 steps, with a step that failed."""
    curve = _LossCurve()
    for step in range(10_000):
        curve.add(math.nan if step == 77 else 2.0 - step / 10_000)
    drawn = str(curve)
    assert len(drawn) == 16
    assert drawn == "".join(sorted(drawn, reverse=True))
    assert (drawn[0], drawn[-1]) == ("█", "▁")
    assert drawn[8] in "▄▅"


def test_validation_values_are_visible_on_a_terminal_of_80_columns() -> None:
    """They have a line of their own; a task with many training metrics cut them off."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system=None)
    display = ProgressDisplay(screen)
    display._task = display._bar.add_task("train", total=20)
    metrics = dict.fromkeys(("loss", "accuracy", "retrieval", "loss_of_views", "perplexity"), 0.5)
    display.esmgn_metrics_logged(9, {**metrics, "valid_loss": 2.125, "valid_f_max": 0.75})
    display.esmgn_metrics_logged(10, {**metrics, "lr": 0.1, "residues_per_second": 1234.0})
    screen.print(*display._bar.get_renderables(), sep="\n")
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is a StringIO
    assert "validation  loss 2.1250  f_max 0.7500" in lines
    assert max(map(len, lines)) <= 80


def test_columns_that_do_not_fit_follow_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No heading is broken and no line is longer than the terminal; the step is beside every part."""
    monkeypatch.setenv("COLUMNS", "80")
    names = ["loss", "accuracy", "retrieval", "valid_loss", "valid_accuracy", "valid_retrieval"]
    lines = [{"step": n, "epoch": 1, **dict.fromkeys(names, 0.5)} for n in range(1, 4)]
    _print_losses(lines, Selection(2, "valid_loss", 0.5))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for heading in ("validation loss", "validation accuracy", "validation retrieval", "residues/s"):
        assert (heading in printed) == (heading != "residues/s")
    first, *others = printed.split("\n\n")
    assert others
    for part in (first, *others):
        assert [line.split()[0] for line in part.splitlines()] == ["step", "1", "2", "3"]
        assert part.splitlines()[2].endswith("best")


def test_scores_of_many_test_sets_fit_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    numbers = {"value": 0.5, "low": 0.25, "high": 0.75}
    _print_report({f"test_{cutoff}": {"f_max": numbers, "aupr": numbers} for cutoff in (30, 40, 50, 70, 95)})
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("0.5000 (0.250 to 0.750)") == 10
    assert all(f"test_{cutoff}" in printed for cutoff in (30, 40, 50, 70, 95))


@pytest.mark.parametrize(
    ("gpu", "flags"),
    [
        (True, "--seq esm2_650m --struct gearnet --fuse serial"),
        (False, "--seq esm2_8m --struct gearnet --fuse serial --set optim.seq_lr_scale=0"),
    ],
)
def test_the_next_command_fits_the_machine(gpu: bool, flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert _composition() == flags


def test_a_run_without_a_step_prints_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, []) == []


@pytest.mark.parametrize(
    ("called", "on_path", "typed"),
    [
        (".venv/bin/esmgn", False, ".venv/bin/esmgn"),
        (".venv/bin/esmgn", True, "esmgn"),
        ("/x/esmgn_cli/__main__.py", False, "esmgn"),
    ],
)
def test_next_commands_can_be_typed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, called: str, on_path: bool, typed: str
) -> None:
    """After ``make run`` the program is not on the path yet."""
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/esmgn" if on_path else None)
    assert _program() == typed
