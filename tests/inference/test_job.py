"""Embedding jobs: complete, in order, and not computed twice."""

from __future__ import annotations

import gzip
import os
import re
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnError, RunError, SettingsError, StructureError, WriteError
from esmgn_core.host.registry import suggested_encoder
from esmgn_core.inference.embed import job, parts
from esmgn_core.inference.embed.files import read_proteins
from esmgn_core.inference.embed.job import Options, Summary, embed_files, refused_file
from esmgn_core.inference.embed.parts import EmbeddingColumns
from esmgn_core.inference.model import Model, load_model
from esmgn_core.io import find_structures
from esmgn_core.store import BuildOptions, build

from ..conftest import pdb_text
from .conftest import DATA, SEQUENCE, SMALL

EDGE = DATA / "structures" / "edge"
NPZ = Options(file_format="npz", devices=("cpu",), max_residues=150)


def run(folder: Path, out: Path, **changes: object) -> Summary:
    return embed_files(SMALL, [folder], out, replace(NPZ, **changes))


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_the_file_holds_the_embeddings_of_the_model(folder: Path, tmp_path: Path, small: Model) -> None:
    summary = run(folder, tmp_path / "out.npz")
    content = load(tmp_path / "out.npz")
    assert summary.num_embedded == 6
    assert content["name"].tolist() == [f"protein{number}" for number in range(6)]
    assert content["path"][0] == str(folder / "protein0.pdb")
    for number, name in enumerate(content["name"]):
        rows = slice(content["ptr"][number], content["ptr"][number + 1])
        expected = small.embed(folder / f"{name}.pdb")
        assert np.abs(content["residue"][rows] - expected.residue.numpy()).max() < 1e-4
        assert np.abs(content["protein"][number] - expected.protein.numpy()).max() < 1e-2
        assert list(content["residue_number"][rows]) == [r.number for r in expected.residues()]
    assert not (tmp_path / "out.npz.parts").exists()


def test_an_interrupted_job_is_resumed(
    folder: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is bit-identical to that of an uninterrupted job."""
    monkeypatch.setattr(job, "_INPUTS_PER_TASK", 2)

    def ctrl_c(done: int, _: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files(SMALL, [folder], tmp_path / "out.npz", NPZ, ctrl_c)
    assert sorted(counted) == [f"protein{number}" for number in range(4)]
    counted.clear()
    summary = run(folder, tmp_path / "out.npz")
    assert sorted(counted) == ["protein4", "protein5"]
    assert (summary.num_embedded, summary.num_reused) == (6, 4)
    run(folder, tmp_path / "undisturbed.npz")
    ours, expected = load(tmp_path / "out.npz"), load(tmp_path / "undisturbed.npz")
    for name in expected.keys() - {"esmgn"}:
        assert np.array_equal(ours[name], expected[name], equal_nan=ours[name].dtype.kind == "f"), name


def test_a_file_is_written_by_one_job_at_a_time(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.npz"
    messages = []

    def second(*_: int) -> None:
        with pytest.raises(RunError) as caught:
            embed_files(SMALL, [folder], out, NPZ)
        messages.append(str(caught.value))

    assert embed_files(SMALL, [folder], out, NPZ, second).num_embedded == 6
    assert re.fullmatch(
        rf"another process writes {out} \(process \d+ on .*\)\n  wait until it ends, or name another file .*",
        messages[0],
    )
    assert [path.name for path in out.parent.iterdir()] == ["out.npz"]


def test_a_file_that_changed_meanwhile_is_computed_again(
    folder: Path, tmp_path: Path, proteins: list[Protein], counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_INPUTS_PER_TASK", 1)
    interrupt_after(2, folder, tmp_path / "out.npz")
    (folder / "protein0.pdb").write_text(pdb_text(replace(proteins[5], name="protein0")))
    counted.clear()
    run(folder, tmp_path / "out.npz")
    assert "protein0" in counted
    assert "protein1" not in counted


def interrupt_after(number: int, folder: Path, out: Path) -> None:
    def ctrl_c(done: int, _: int) -> None:
        if done >= number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files(SMALL, [folder], out, NPZ, ctrl_c)


def test_a_damaged_part_is_computed_again(
    folder: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_INPUTS_PER_TASK", 1)
    interrupt_after(3, folder, tmp_path / "out.npz")
    part = min((tmp_path / "out.npz.parts").glob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:100])
    counted.clear()
    assert run(folder, tmp_path / "out.npz").num_embedded == 6
    assert len(counted) == 4


def test_a_finished_job_is_not_repeated(folder: Path, tmp_path: Path, counted: list[str]) -> None:
    first = run(folder, tmp_path / "out.npz")
    counted.clear()
    again = run(folder, tmp_path / "out.npz")
    assert counted == []
    assert again == replace(first, num_reused=6)


def test_results_of_another_model_are_not_mixed_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_INPUTS_PER_TASK", 1)
    interrupt_after(2, folder, tmp_path / "out.npz")
    other = replace(SMALL, changes=(*SMALL.changes, "train.seed=1"))
    with pytest.raises(RunError, match="holds unfinished results of another model or level"):
        embed_files(other, [folder], tmp_path / "out.npz", NPZ)
    run(folder, tmp_path / "out.npz")
    with pytest.raises(RunError, match="exists and is not the result of this job"):
        embed_files(other, [folder], tmp_path / "out.npz", NPZ)
    embed_files(other, [folder], tmp_path / "out.npz", replace(NPZ, overwrite=True))
    seed_one = load_model(other).embed(folder / "protein0.pdb").protein.numpy()
    assert np.abs(load(tmp_path / "out.npz")["protein"][0] - seed_one).max() < 1e-2


def test_two_processes_give_the_file_of_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_INPUTS_PER_TASK", 2)
    run(folder, tmp_path / "one.npz")
    run(folder, tmp_path / "two.npz", devices=("cpu", "cpu"))
    one, two = load(tmp_path / "one.npz"), load(tmp_path / "two.npz")
    assert one["name"].tolist() == two["name"].tolist()
    assert np.array_equal(one["residue"], two["residue"])


def test_bad_files_are_listed_and_the_others_embedded(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.pdb").write_text("")
    (folder / "page.cif").write_text("<html>not found</html>")
    summary = run(folder, tmp_path / "out.npz")
    assert (summary.num_embedded, summary.num_refused) == (6, 2)
    rows = refused_file(tmp_path / "out.npz").read_text().splitlines()
    assert rows[0] == "path\tname\treason"
    assert rows[1] == f"{folder / 'empty.pdb'}\tempty\tthe file is empty"
    assert rows[2].startswith(f"{folder / 'page.cif'}\tpage\tan HTML page, as a failed download leaves")


def test_a_folder_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pdb").write_text("")
    with pytest.raises(StructureError, match="none of 1 inputs could be embedded"):
        run(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_sequences_are_embedded_by_a_sequence_encoder(tmp_path: Path) -> None:
    file = tmp_path / "two.fasta.gz"
    file.write_bytes(gzip.compress(b">one some text\nMKV\nLLA*\n>bad\nMK-V\n>one\nACDEX\n"))
    summary = embed_files(SEQUENCE, [file], tmp_path / "out.npz", NPZ)
    content = load(tmp_path / "out.npz")
    assert content["name"].tolist() == ["one", "one_2"]
    assert "".join(content["residue_letter"]) == "MKVLLAACDEX"
    assert content["residue_number"].tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]
    assert summary.num_refused == 1
    assert "record bad has -" in refused_file(tmp_path / "out.npz").read_text()


def test_sequences_for_a_model_that_reads_structures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.fasta").write_text(">a\nMKV\n")
    with pytest.raises(StructureError) as caught:
        embed_files(SMALL, [tmp_path / "x.fasta"], tmp_path / "out.npz", NPZ)
    assert "holds sequences, but this model needs structures" in str(caught.value)
    assert f"a sequence encoder alone: --seq {suggested_encoder()}" in str(caught.value)


def test_a_sequence_encoder_reads_the_sequence_of_a_structure(
    folder: Path, tmp_path: Path, proteins: list[Protein]
) -> None:
    fasta = tmp_path / "same.fasta"
    fasta.write_text(f">protein0\n{proteins[0].sequence}\n")
    embed_files(SEQUENCE, [folder / "protein0.pdb"], tmp_path / "structure.npz", NPZ)
    embed_files(SEQUENCE, [fasta], tmp_path / "sequence.npz", NPZ)
    first, second = load(tmp_path / "structure.npz"), load(tmp_path / "sequence.npz")
    assert np.array_equal(first["residue"], second["residue"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_one_part_at_a_time_is_in_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a job does not grow with its inputs."""
    mapped: list[int] = []

    def reading(content: EmbeddingColumns, path: Path, *_: object) -> None:
        parts = path.with_name(f"{path.name}.parts")
        assert len([*parts.glob("*.safetensors")]) == 6
        for name in content.vectors:
            for _ in content.blocks(name):
                files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
                mapped.append(sum(file.startswith(str(parts)) for file in files))

    monkeypatch.setattr(job, "write_embeddings", reading)
    monkeypatch.setattr(parts, "_ROWS_PER_BLOCK", 1)
    run(folder, tmp_path / "out.npz", max_residues=1)
    assert max(mapped) == 1


def test_the_level_protein_stores_no_residues(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out.npz", level="protein")
    assert set(load(tmp_path / "out.npz")) == {"name", "path", "num_residues", "protein", "esmgn"}
    assert read_proteins(tmp_path / "out.npz").names[0] == "protein0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"level": "residues"}, "did you mean: residue?"), ({"precision": "fp8"}, "available: fp32, bf16")],
)
def test_wrong_options_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Options(**changes)
    assert message in str(caught.value)


def test_nothing_to_embed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EsmgnError, match="no structure files in"):
        run(tmp_path, tmp_path / "out.npz")


def test_every_entry_of_a_folder_is_embedded_refused_or_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "pipe.pdb").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe.pdb")
    (folder / "gone.pdb").symlink_to("nowhere")
    (folder / "x.mol2").write_text("x")
    (folder / "README.md").write_text("x")
    name = os.fsdecode(b"caf\xe9.pdb")
    (folder / "protein0.pdb").rename(folder / name)
    summary = run(folder, tmp_path / "out.npz")
    assert (summary.num_embedded, summary.num_refused) == (6, 3)
    assert summary.passed_over == "1 other file passed over (1 .md)"
    refused = (line.split("\t") for line in refused_file(tmp_path / "out.npz").read_text().splitlines()[1:])
    assert {line[1]: line[2].partition(":")[0] for line in refused} == {
        "pipe": "a named pipe, not a file",
        "gone": "a link to nowhere, which does not exist",
        "x.mol2": "MOL2 format is not read",
    }
    assert load(tmp_path / "out.npz")["name"][0] == r"caf\xe9"
    again = run(folder, tmp_path / "out.npz")
    assert again.passed_over == summary.passed_over


@pytest.mark.skipif(not EDGE.is_dir(), reason=f"needs the structure files in {EDGE}")
def test_every_hard_file_gives_rows_for_its_residues_or_a_reason(tmp_path: Path) -> None:
    """Rows are the residues with a CA atom that gemmi finds, one to one and in its order."""
    summary = run(EDGE, tmp_path / "out.npz", max_residues=4096)
    content = load(tmp_path / "out.npz")
    refused = refused_file(tmp_path / "out.npz").read_text().splitlines()[1:]
    files = {str(path) for path in find_structures([EDGE])}
    assert len(files) == 59
    assert {*content["path"], *(line.split("\t")[0] for line in refused)} == files
    assert len(content["path"]) + len(refused) == len(files)
    assert all(len(line.split("\t")[2]) > 10 for line in refused)
    assert np.isfinite(content["residue"]).all()
    assert summary.num_residues == len(content["residue"]) == content["ptr"][-1]
    for number, path in enumerate(content["path"]):
        rows = slice(content["ptr"][number], content["ptr"][number + 1])
        columns = ("chain", "residue_number", "insertion_code", "residue_letter")
        ours = list(zip(*(content[name][rows].tolist() for name in columns), strict=True))
        expected = residues_with_ca(Path(path))
        # Chains without a name are numbered if there are several.
        places = [
            ("" if row[0] in "12" and not place[0] else row[0], *row[1:3])
            for row, place in zip(ours, expected, strict=True)
        ]
        assert places == list(expected), path
        for (*_, letter), letters in zip(ours, expected.values(), strict=True):
            # Of modified residues, whose parents are another test's subject, gemmi has other letters.
            assert letter in letters or not set(letters) & set(AMINO_ACIDS), path


def residues_with_ca(path: Path) -> dict[tuple[str, int | None, str], str]:
    """Chain, number and insertion code of the amino acids of the first model, by gemmi.

    With the letters of the residues that share the place: alternatives of one position.
    """
    text = path.read_bytes()
    text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
    if text.lstrip().startswith(b"data_") or b"_atom_site." in text:
        structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    else:
        structure = gemmi.read_pdb_string(text)
    structure.merge_chain_parts()
    structure.setup_entities()
    found: dict[tuple[str, int | None, str], str] = {}
    for chain in structure[0]:
        for residue in chain:
            listed = gemmi.find_tabulated_residue(residue.name)
            ca = [atom for atom in residue if atom.name == "CA" and atom.element.name == "C"]
            bound = residue.het_flag != "H" or residue.entity_type == gemmi.EntityType.Polymer
            real = any(np.isfinite(atom.pos.tolist()).all() for atom in ca)
            if real and bound and (listed.is_amino_acid() or not listed.found()):
                place = (chain.name, residue.seqid.num, residue.seqid.icode.strip())
                found[place] = found.get(place, "") + (listed.one_letter_code if listed.found() else "x")
    return found


def test_a_store_gives_the_embeddings_of_its_files(folder: Path, tmp_path: Path) -> None:
    build([str(folder)], tmp_path / "store", BuildOptions())
    run(folder, tmp_path / "files.npz")
    run(tmp_path / "store", tmp_path / "stored.npz")
    files, stored = load(tmp_path / "files.npz"), load(tmp_path / "stored.npz")
    assert len(stored["name"]) == 6
    order = [stored["num_residues"].tolist().index(length) for length in files["num_residues"]]
    assert np.abs(stored["protein"][order] - files["protein"]).max() < 0.05 * np.abs(files["protein"]).max()


def test_a_full_disk_is_an_error_and_the_same_command_resumes(folder: Path, small_disk: Path) -> None:
    (small_disk / "rest").write_bytes(bytes(560_000))
    out = small_disk / "out.npz"
    with pytest.raises(WriteError, match=r"cannot write .*: the disk is full \(0\.\d MB free\)"):
        run(folder, out)
    assert not out.exists()
    (small_disk / "rest").unlink()
    assert run(folder, out).num_embedded == 6
    assert [path.name for path in small_disk.iterdir()] == ["out.npz"]
