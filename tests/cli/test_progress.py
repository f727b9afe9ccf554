"""What a run shows when it ends."""

from __future__ import annotations

import math

import pytest

from esmgn_cli.progress import _Curve, _print_losses, _program
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


def test_the_validation_that_selected_the_encoder_is_a_row_of_its_own(
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
    curve = _Curve()
    for step in range(10_000):
        curve.add(math.nan if step == 77 else 2.0 - step / 10_000)
    drawn = str(curve)
    assert len(drawn) == 16
    assert drawn == "".join(sorted(drawn, reverse=True))
    assert (drawn[0], drawn[-1]) == ("█", "▁")
    assert drawn[8] in "▄▅"


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
