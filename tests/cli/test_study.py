"""``esmgn study`` from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esmgn_core.engine.runs import RunSummary

from .conftest import Esmgn

STUDY = """
[run]
seq = { name = "onehot" }
struct = { name = "gearnet", hidden_dim = 8, num_layers = 1 }
pretext = { name = "residue_type" }
data = { name = "sample", num_proteins = 30, max_length = 30 }
train = { epochs = 1, proteins_per_batch = 4, trackers = [] }

[axes]
seed = [0]
fuse = ["serial", "structre"]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "small.toml"
    file.write_text(STUDY.replace("structre", "structure"))
    return file


def test_a_study_runs_and_is_listed(esmgn: Esmgn, study: Path, tmp_path: Path) -> None:
    waiting = esmgn("study", "status", study)
    assert waiting.out.endswith("2 cells: 2 waiting\n")
    dry = esmgn("study", "run", study, "--dry-run")
    assert dry.status == 0, dry.err
    assert re.search(r"^run    0, serial +7  ", dry.out, re.MULTILINE)
    assert "measured on this machine" in dry.out
    assert not (tmp_path / "studies").exists()
    done = esmgn("study", "run", study, "--jobs", "2")
    assert done.status == 0, done.err
    assert "2 cells: 2 done" in done.out
    ids = re.findall(r"^(\w{12})  run +done", esmgn("study", "status", study).out, re.MULTILINE)
    runs = [RunSummary.of(tmp_path / "studies" / "small" / "runs" / name) for name in ids]
    assert [run.state for run in runs] == ["finished at step 7"] * 2
    assert esmgn("study", "run", study).out.startswith("2 cells: 2 done")
    assert_results_are_shown(esmgn, study, tmp_path)
    assert esmgn("study", "run", study, "--dry-run").out == "2 cells: 2 done\n"


def assert_results_are_shown(esmgn: Esmgn, study: Path, folder: Path) -> None:
    printed = esmgn("study", "table", study).out
    assert "lower loss is better" in printed
    written = esmgn("study", "table", study, "--format", "csv", "-o", folder / "table.csv")
    assert written.out == f"written: {folder / 'table.csv'}\n"
    assert (folder / "table.csv").read_text().splitlines()[0].startswith("row,stage,labels,set,metric")
    plots = esmgn("study", "plot", study).out.splitlines()
    assert all(Path(line.removeprefix("written: ")).is_file() for line in plots)
    assert esmgn("study", "report", study).status == 0
    assert "<svg" in (folder / "studies" / "small" / "report.html").read_text()
    missing = esmgn("study", "table", study, "--metric", "f_max")
    assert "the study has no finished cell with the score 'f_max'" in missing.err


def test_mistakes_in_names_are_reported_before_anything_runs(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text(STUDY)
    done = esmgn("study", "run", "wrong.toml")
    assert done.status == 2
    assert "did you mean: structure?" in done.err
    assert not (tmp_path / "studies").exists()


def test_a_shipped_study_becomes_a_file(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert esmgn("study", "new", "smoke").status == 0
    assert esmgn("study", "status", "smoke.toml").out.endswith("78 cells: 78 waiting\n")
    again = esmgn("study", "new", "smoke")
    assert (again.status, again.err.splitlines()[0]) == (2, "error: smoke.toml exists")
    assert "did you mean: smoke?" in esmgn("study", "new", "smok").err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--gpus", "0,x"), "cannot read --gpus '0,x'"),
        (("--gpus", "0,1,2", "--jobs", "2"), "3 GPUs cannot be divided among 2 jobs"),
        (("--cell", "abc"), "the study has no cell 'abc' (--cell)"),
    ],
)
def test_wrong_flags_are_refused(esmgn: Esmgn, study: Path, flags: tuple[str, ...], message: str) -> None:
    done = esmgn("study", "run", study, *flags)
    assert done.status == 2
    assert message in done.err
