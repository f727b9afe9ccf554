"""Scores by identity with training proteins and by pLDDT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esmgn_core.batch import Protein
from esmgn_core.engine.bins import chains_of, nearest_identity, read_bins, title
from esmgn_core.io.write import pdb_text
from esmgn_core.run_folder import RunFolder
from esmgn_core.testing import example_proteins

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture


def test_the_identity_is_that_of_the_nearest_training_chain() -> None:
    known = ["MKVLWAAGHTRD", "GGGGGGGG"]
    asked = ["MKVLWAAGHTRD", "MKVLWCAGHTRD", "MKVLWAAGHTRDQQQQQQQQQQ", "PPPP"]
    assert nearest_identity(asked, known).round(1).tolist() == [100.0, 91.7, 54.5, 0.0]
    assert nearest_identity(["MKV"], []).tolist() == [0.0]
    # X counts neither as an equal residue nor as a residue.
    unknown = nearest_identity(["XXXXXXMKVLWA", "XXXMKVLWAXXX"], ["XXXXXXGGGHTR", "MKVLWA"])
    assert unknown.tolist() == [100.0, 100.0]
    assert nearest_identity(["XXXXXXMKVLWA", "XXX"], ["XXXXXXGGGHTR"]).tolist() == [0.0, 0.0]
    assert chains_of(example_proteins()[0]) == [
        example_proteins()[0].sequence[:17],
        example_proteins()[0].sequence[17:],
    ]


@pytest.mark.parametrize(
    ("kind", "low", "text"),
    [("identity", 0.0, "0 to 30 %"), ("identity", 95.0, "95 to 100 %"), ("plddt", 70.0, "70 to 90")],
)
def test_bins_are_named_by_their_bounds(kind: str, low: float, text: str) -> None:
    assert title(kind, low) == text


def test_the_test_proteins_of_a_run_are_binned_and_shown(esmgn: Esmgn, tmp_path: Path) -> None:  # noqa: F811
    train = [replace(protein, name=f"train{number}") for number, protein in enumerate(example_proteins())]
    same = [replace(train[n], name=f"same{n}", plddt=torch.full((len(train[n]),), 95.0)) for n in (0, 2, 4)]
    random = torch.Generator().manual_seed(1)
    other = [
        replace(
            protein,
            name=f"other{number}",
            residue_type=torch.randint(20, (len(protein),), generator=random),
            plddt=torch.full((len(protein),), 60.0),
        )
        for number, protein in enumerate([train[2]] * 3)
    ]
    lines = ["file,split,label"]
    splits = [*("train" for _ in train), *("test" for _ in range(6))]
    for number, (protein, split) in enumerate(zip([*train, *same, *other], splits, strict=True)):
        write(tmp_path, protein)
        lines.append(f"{protein.name}.pdb,{split},{number % 5}")
    (tmp_path / "labels.csv").write_text("\n".join([*lines, ""]))
    run = tmp_path / "run"
    small = ("--seq", "onehot", "--set", "struct.hidden_dim=8", "--set", "train.max_steps=1")
    labels = ("--downstream", "regression", "--data", "csv", "--set", f"data.table={tmp_path}/labels.csv")
    assert esmgn("run", *small, *labels, "--out", run).status == 0
    done = esmgn("runs", "bins", run)
    assert done.status == 0
    bins, metric = read_bins(RunFolder(run))
    assert metric == "spearman"
    assert [item.number for item in bins["test"]["identity"]] == [3, 0, 0, 3]
    rows = [line.split() for line in done.out.splitlines()]
    assert ["0", "to", "30", "%", "3"] in [row[:5] for row in rows]
    assert ["95", "to", "100", "%", "3"] in [row[:5] for row in rows]
    assert esmgn("report", run).status == 0
    assert "identity with training proteins" in (run / "report.html").read_text()


def write(folder: Path, protein: Protein) -> None:
    (folder / f"{protein.name}.pdb").write_text(pdb_text(protein))
