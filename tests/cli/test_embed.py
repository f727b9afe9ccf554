"""``esmgn embed`` as typed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import esmgn_core
from esmgn_core.batch import Protein
from esmgn_core.inference.embed.job import parts_folder
from esmgn_core.inference.embedding import Embedding
from esmgn_core.inference.model import Model

from ..conftest import pdb_text
from .conftest import Esmgn

ROOT = Path(__file__).parents[2]
MODEL = ("--seq", "esm2_tiny", "--struct", "gearnet", "--set", "struct.hidden_dim=8")


def test_a_folder_is_embedded_and_the_files_are_named(esmgn: Esmgn, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.pdb").write_text("")
    out = tmp_path / "out.npz"
    done = esmgn("embed", folder, "-o", out, *MODEL, "--devices", "cpu")
    assert done.status == 0
    assert done.err == "warning: random weights: sequence encoder, structure encoder\n"
    lines = done.out.splitlines()
    assert re.fullmatch(r"6 proteins, \d+ residues, 80 numbers each", lines[0])
    assert lines[1:] == [
        f"1 left out, with reasons: {out}.refused.tsv",
        f"written: {out}",
        f"search it: esmgn neighbors QUERY --in {out}",
    ]
    again = esmgn("embed", folder, "-o", out, *MODEL, "--devices", "cpu")
    assert "7 inputs computed by an earlier run of this command" in again.out


def test_one_protein_is_written_in_the_singular(esmgn: Esmgn, folder: Path, tmp_path: Path) -> None:
    command = ("embed", folder / "protein0.pdb", "-o", tmp_path / "out.npz", *MODEL, "--devices", "cpu")
    assert esmgn(*command).out.startswith("1 protein, ")
    assert "1 input computed by an earlier run of this command" in esmgn(*command).out


@pytest.mark.parametrize("wrong", [("--seq", "esm2_tniy"), ("--set", "seq.weights=/no/such.pt")])
def test_a_refused_command_creates_no_folder(
    esmgn: Esmgn, folder: Path, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    assert esmgn("embed", folder, "-o", tmp_path / "new" / "e.npz", *MODEL, *wrong).status == 2
    assert not (tmp_path / "new").exists()
    assert esmgn("embed", tmp_path / "absent.pdb", "-o", tmp_path / "new" / "e.npz", *MODEL).status == 2
    assert not (tmp_path / "new").exists()


WAITING_PROGRAM = """
import signal, time
from esmgn_cli.__main__ import main
from esmgn_core.inference.model import Model

embed_batch, num_passes = Model.embed_batch, 0

def four_passes(model, proteins):
    global num_passes
    num_passes += 1
    if num_passes > 4:
        time.sleep(60)
    return embed_batch(model, proteins)

Model.embed_batch = four_passes
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""``esmgn`` that waits for a signal after four passes of its model, with the handler that Python leaves out
where it starts in the background of a shell."""


def test_after_ctrl_c_the_same_command_computes_the_rest_only(
    esmgn: Esmgn, tmp_path: Path, proteins: list[Protein], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "many", tmp_path / "out.npz"
    folder.mkdir()
    for number in range(80):
        (folder / f"p{number:03}.pdb").write_text(pdb_text(min(proteins, key=len)))
    command = ("embed", folder, "-o", out, *MODEL, "--devices", "cpu", "--max-residues", "300")
    first = subprocess.Popen(
        [sys.executable, "-c", WAITING_PROGRAM, *map(str, command)], stderr=subprocess.PIPE, text=True
    )
    while first.poll() is None and not [*parts_folder(out).glob("*.safetensors")]:
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    lines = first.communicate(timeout=60)[1].splitlines()
    assert first.returncode == 130, lines
    assert (
        lines[-1]
        == f"interrupted; results so far are in {parts_folder(out)}; to continue, run the same command"
    )
    assert not out.exists()
    computed: list[str] = []
    embed_batch = Model.embed_batch

    def counting(model: Model, batch: list[Protein]) -> list[Embedding]:
        computed.extend(protein.name for protein in batch)
        return embed_batch(model, batch)

    monkeypatch.setattr(Model, "embed_batch", counting)
    again = esmgn(*command)
    assert 0 < len(computed) < 80
    assert f"{80 - len(computed)} inputs computed by an earlier run of this command" in again.out
    with np.load(out) as content:
        assert content["name"].tolist() == [f"p{number:03}" for number in range(80)]


def test_without_a_model_the_ways_to_name_one_are_shown(esmgn: Esmgn, tmp_path: Path) -> None:
    done = esmgn("embed", tmp_path, "-o", tmp_path / "out.npz")
    assert done.status == 2
    assert done.err.splitlines()[:2] == [
        "error: no model is given",
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
    assert np.isfinite(embedding.residue.numpy()).all()  # type: ignore[attr-defined]  # an embedding of one protein
    assert len(embedding.residues()) == len(proteins[0])  # type: ignore[attr-defined]  # an embedding of one protein
