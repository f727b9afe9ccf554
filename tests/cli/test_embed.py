"""``esmgn embed`` as typed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import esmgn_core
from esmgn_core.batch import Protein

from .conftest import Esmgn

ROOT = Path(__file__).parents[2]
MODEL = ("--seq", "esm2_tiny", "--struct", "gearnet", "--set", "struct.hidden_dim=8")


def test_a_folder_is_embedded_and_what_was_written_is_said(
    esmgn: Esmgn, folder: Path, tmp_path: Path
) -> None:
    (folder / "bad.pdb").write_text("")
    out = tmp_path / "out.npz"
    done = esmgn("embed", folder, "-o", out, *MODEL, "--devices", "cpu")
    assert done.status == 0
    assert done.err == "warning: random weights: sequence encoder, structure encoder\n"
    lines = done.out.splitlines()
    assert re.fullmatch(r"6 proteins, \d+ residues, 80 numbers each", lines[0])
    assert lines[1:] == [
        f"1 left out, each with its reason: {out}.refused.tsv",
        f"written: {out}",
        f"search it: esmgn neighbours QUERY --in {out}",
    ]
    again = esmgn("embed", folder, "-o", out, *MODEL, "--devices", "cpu")
    assert "7 of them were there before" in again.out


def test_without_a_model_the_ways_to_name_one_are_shown(esmgn: Esmgn, tmp_path: Path) -> None:
    done = esmgn("embed", tmp_path, "-o", tmp_path / "out.npz")
    assert done.status == 2
    assert done.err.splitlines()[:2] == [
        "error: no model is named",
        "  the folder of a run or of imported weights: --model FOLDER",
    ]


def test_the_readme_embeds_in_three_lines(
    folder: Path,
    proteins: list[Protein],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The example itself, with a made-up structure and a model that needs no training."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Embeddings")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in example.splitlines() if line]) == 3
    (folder / "1abc.pdb").write_bytes((folder / "protein0.pdb").read_bytes())
    monkeypatch.chdir(folder)
    load = esmgn_core.load
    monkeypatch.setattr(
        esmgn_core, "load", lambda name: load(seq="esm2_tiny") if name == "runs/NAME" else None
    )
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 - the README's own lines
    embedding = names["embedding"]
    assert np.isfinite(embedding.residue.numpy()).all()  # type: ignore[attr-defined]
    assert len(embedding.residues()) == len(proteins[0])  # type: ignore[attr-defined]
