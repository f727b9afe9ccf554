"""Names with control characters and markup are printed as they are spelled, and act on no terminal."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from esmgn_cli.__main__ import _PrintableFormatter
from esmgn_cli.model_options import bar
from esmgn_cli.progress import ProgressDisplay, _print_report
from esmgn_cli.render import block, console, echo, table
from esmgn_core.io import Refusal
from esmgn_core.io.write import pdb_text
from esmgn_core.machine.download import _progress
from esmgn_core.printable import printable
from esmgn_core.run_folder import RunFolder
from esmgn_core.testing import example_proteins

from .conftest import Esmgn
from .test_runs import recorded

HOSTILE = "a\x1b[31m\r\n\x07\u202e\u200b\x9b2J[red]{x}"
SPELLED = r"a\x1b[31m\r\n\x07\u202e\u200b\x9b2J[red]{x}"


def acts_on_no_terminal(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        (HOSTILE, SPELLED),
        ("größe Helix, 50 Å", "größe Helix, 50 Å"),
        ("\udcff.pdb", r"\udcff.pdb"),
        ("a\u2028b\u2066c\u00a0d", "a\\u2028b\\u2066c\u00a0d"),
    ],
)
def test_only_characters_that_act_are_escaped(text: str, spelled: str) -> None:
    assert printable(text) == spelled


def test_lines_stay_lines_and_text_that_is_laid_out_keeps_its_line_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo("one\ntwo", Path("a\x1bb"))
    block("one\ntwo\x1b")
    block(table([(HOSTILE, "x"), ("short", HOSTILE)], indent="", width=200))
    lines = capsys.readouterr().out.split("\n")
    assert lines[:4] == [r"one\ntwo", r"a\x1bb", "one", r"two\x1b"]
    assert lines[4:] == [f"{SPELLED}  x", f"{'short':{len(SPELLED)}}  {SPELLED}", ""]


@pytest.fixture
def store(esmgn: Esmgn, tmp_path: Path) -> Path:
    folder = tmp_path / "structures"
    folder.mkdir()
    (folder / f"{HOSTILE}.pdb").write_text(pdb_text(example_proteins()[0]))
    (folder / f"{HOSTILE}2.pdb").write_text("")
    assert esmgn("data", "build", folder, "-o", tmp_path / "store", "--workers", 1).status == 0
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("list", "STORE"), f"\n{SPELLED}\t"),
        (("list", "STORE", "--refused"), f"\n{SPELLED}2\t"),
        (("show", "STORE", HOSTILE), SPELLED),
        (("show", "STORE", HOSTILE + "x"), f"did you mean: {SPELLED}?"),
        (("info", f"STORE{HOSTILE}"), f"store{SPELLED}: "),
    ],
)
def test_listings_of_a_store_print_names_as_they_are_spelled(
    esmgn: Esmgn, store: Path, arguments: tuple[str, ...], wanted: str
) -> None:
    done = esmgn("data", *(item.replace("STORE", str(store)) for item in arguments))
    text = done.out + done.err
    assert acts_on_no_terminal(text)
    assert wanted in text


def test_runs_with_hostile_names_states_and_settings_are_listed(esmgn: Esmgn, tmp_path: Path) -> None:
    run = recorded(tmp_path / HOSTILE, [3.0, 2.0])
    config = run.config.read_text().replace('"gearnet"', '"gear\\u001b[31m\\nnet"', 1)
    run.config.write_text(config)
    run.log(f"failed: {HOSTILE}")
    listed = esmgn("runs", "--in", tmp_path)
    assert acts_on_no_terminal(listed.out)
    assert SPELLED in listed.out
    assert r"gear\x1b[31m\nnet" in "".join(listed.out.split("\n" + " " * 60))
    other = recorded(tmp_path / "other", [3.0, 2.0])
    compared = esmgn("runs", "compare", run.path, other.path)
    assert acts_on_no_terminal(compared.out)
    assert f"failed: {SPELLED}" in compared.out


def test_an_error_is_one_line_whatever_the_file_is_called(esmgn: Esmgn, tmp_path: Path) -> None:
    done = esmgn("mutate", tmp_path / f"{HOSTILE}.pdb", "A1G", "--seq", "esm2_tiny")
    assert done.status == 2
    assert acts_on_no_terminal(done.err)
    assert done.err.split("\n")[0].startswith(f"error: cannot read {tmp_path}/{SPELLED}.pdb: ")


def test_records_of_a_run_have_a_line_for_each_entry(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_refused([Refusal(Path(f"{HOSTILE}\t.pdb"), "no\tatoms\n")])
    run.add_refused(HOSTILE, "gone")
    run.log(f"failed: {HOSTILE}\n2026-01-01 00:00:00  finished at step 9")
    assert run.refused.read_text().splitlines()[1:] == [
        rf"{SPELLED}\t.pdb" + "\t" + r"no\tatoms\n",
        f"{SPELLED}\tgone",
    ]
    assert len(run.log_file.read_text().splitlines()) == 1


def test_the_progress_of_a_run_takes_names_without_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path)
    run.write_labels("multilabel", ["[bold]x", HOSTILE])
    display = ProgressDisplay(console(err=True))
    display.esmgn_run_started(run, total_steps=1, first_step=0)
    display.esmgn_notice(f"protein {HOSTILE} :smile: cannot be read")
    _print_report({HOSTILE: {"f_max": {"value": 0.5}}})
    captured = capsys.readouterr()
    text = captured.err + captured.out
    assert acts_on_no_terminal(text)
    assert f"labels: [bold]x, {SPELLED}" in text
    assert f"note: protein {SPELLED} :smile: cannot be read" in text
    assert SPELLED in captured.out


def test_bars_take_names_without_markup_or_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with bar(HOSTILE) as report:
        assert report is not None
        report(1, 2)
    with _progress(HOSTILE, 0, 10):
        pass
    drawn = capsys.readouterr().err
    assert drawn.count(SPELLED) >= 2
    assert "a\x1b[31m" not in drawn


def test_the_log_on_stderr_is_printable() -> None:
    record = logging.LogRecord("esmgn", logging.WARNING, "", 0, "%s is cut", (HOSTILE,), None)
    assert _PrintableFormatter().format(record) == f"{SPELLED} is cut"
