"""The commands of ``docs/downstream.md``, and runs on the samples in ATOM3D's layout."""

from __future__ import annotations

import gzip
import json
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

from esmgn_core.testing import example_proteins
from esmgn_core.testing.files import write_pdb

from .conftest import Esmgn

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "downstream.md").read_text(encoding="utf-8")
SAMPLES = ROOT.parent / "shared" / "data" / "atom3d"
TINY = [
    *("--seq", "esm2_tiny", "--set", "struct.hidden_dim=16", "--set", "struct.num_layers=2"),
    *("--set", "train.max_steps=2", "--set", "train.resamples=10"),
]


def commands() -> list[list[str]]:
    """Every command of the page, without what comes after ``#``."""
    blocks = re.findall(r"```\n(.*?)```", PAGE, flags=re.DOTALL)
    inline = re.findall(r"`(esmgn [^`]+)`", PAGE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in [*lines, *inline] if line.startswith("esmgn ")]
    return [command[1:] for command in found]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_the_page_is_one(esmgn: Esmgn, command: list[str]) -> None:
    """Runs are checked whole, and not started; folders of earlier runs, and GPUs, are taken out."""
    for flag in {"--init", "--gpus"} & set(command):
        place = command.index(flag)
        command = command[:place] + command[place + 2 :]
    if command[0] in ("runs", "report", "check"):  # of runs that the page trains, or of a large model
        command = [*command[: 2 if command[0] == "runs" else 1], "--help"]
    finished = esmgn(*command, *(["--dry-run"] if command[0] == "run" else []))
    assert (finished.status, finished.err) == (0, "")


def test_the_table_of_the_page_runs(esmgn: Esmgn, tmp_path: Path) -> None:
    table = re.search(r"```\n(file,label,split\n.*?)```", PAGE, flags=re.DOTALL)
    assert table
    (tmp_path / "labels.csv").write_text(table[1])
    long, two_chains, *_ = sorted(example_proteins(), key=len, reverse=True)
    for protein, name in ((long, "1abc.pdb"), (two_chains, "2xyz.cif.gz"), (long, "3foo.pdb")):
        write_pdb(protein, tmp_path / "files" / name)
    packed = tmp_path / "files" / "2xyz.cif.gz"
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    data = [f"data.table={tmp_path / 'labels.csv'}", f"data.structures={tmp_path / 'files'}"]
    sets = [argument for text in data for argument in ("--set", text)]
    finished = esmgn(
        "run", "--downstream", "multilabel", "--data", "csv", *sets, *TINY, "--out", tmp_path / "run"
    )
    assert finished.status == 0, finished.err
    assert "scores with intervals:" in finished.out
    assert "labels: enzyme, membrane\n" in finished.err
    assert json.loads((tmp_path / "run" / "labels.json").read_text())["labels"] == ["enzyme", "membrane"]


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert snippet
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "NAME").mkdir(parents=True)
    arrays = {"test.predictions": np.eye(3), "test.labels": np.eye(3)}
    np.savez(tmp_path / "runs" / "NAME" / "predictions.npz", allow_pickle=False, **arrays)
    exec(snippet[1], {})  # noqa: S102 - the page's own lines


def test_the_table_of_enzymes_is_made_by_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tenth of the chains: every row, with scores that lie within their intervals."""
    data = SAMPLES.parent
    if not data.is_dir():
        pytest.skip("the enzymes and their labels are not at hand (../shared/data)")
    encoder = "seq.name=onehot struct.num_layers=2 struct.hidden_dim=16"
    script = ROOT / "benchmarks" / "enzymes.py"
    monkeypatch.setattr("sys.argv", [str(script), str(data), "--quick", "--random", encoder])
    runpy.run_path(str(script), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if re.match(r"\| f", line)]
    assert [row[2] for row in rows] == 2 * [
        "majority",
        "nearest 3-mers",
        "head on residue counts",
        f"head on random `{encoder}`, frozen",
    ]
    for value, low, high in re.findall(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", str(rows)):
        assert 0 <= float(low) <= float(value) <= float(high) <= 1


@pytest.mark.parametrize(
    ("task", "sample", "score"), [("psr", "psr_sample", "spearman"), ("msp", "msp_sample", "auroc")]
)
def test_samples_of_atom3d_from_lmdb_to_a_score(
    esmgn: Esmgn, tmp_path: Path, task: str, sample: str, score: str
) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the samples in ATOM3D's layout are not at hand (../shared/data/atom3d)")
    path = f"data.path={SAMPLES / sample}"
    finished = esmgn("run", "--downstream", task, "--set", path, *TINY, "--out", tmp_path / "run")
    assert finished.status == 0, finished.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["metric"] == score
    sizes = {name: part["num_predictions"] for name, part in results["sets"].items()}
    assert sizes == ({"valid": 50, "test": 70} if task == "psr" else {"valid": 9, "test": 9})
    assert -1 <= results["sets"]["test"]["scores"][score]["value"] <= 1
