"""FASTA files of other programs: unique names, separate chains, notes on unusual letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.inference.embed.job import Options, embed_files, refused_file
from esmgn_core.inference.fasta import is_fasta, protein_of_record, read_fasta
from esmgn_core.inference.inputs import find_inputs
from esmgn_core.io import Refusal

from .conftest import SEQUENCE

CASE = Path(__file__).parents[3] / "shared" / "cases" / "proteinmpnn-fasta"
NPZ = Options(file_format="npz", devices=("cpu",))
MPNN = """>6MRR, score=1.4, global_score=1.4, fixed_chains=[], designed_chains=['A', 'B'], seed=37
MKHLAEDC/GGTW
>T=0.1, sample=1, score=0.81, global_score=0.81, seq_recovery=0.40
MKHLAEDD/GGTY
>T=0.1, sample=2, score=0.79, global_score=0.79, seq_recovery=0.42
MKHLAEDW/GGTF
"""


def inputs(tmp_path: Path, text: str) -> list[Protein | Refusal]:
    file = tmp_path / "x.fa"
    file.write_text(text)
    return [item.read() for item in find_inputs([file], sequence_only=True)]


def test_samples_of_proteinmpnn_have_unique_names_and_separate_chains(tmp_path: Path) -> None:
    proteins = inputs(tmp_path, MPNN)
    assert all(isinstance(protein, Protein) for protein in proteins)
    assert [p.name for p in proteins] == ["6MRR", "T=0.1_sample=1", "T=0.1_sample=2"]
    first = proteins[1]
    assert first.sequence == "MKHLAEDDGGTY"
    assert first.chains == ("A", "B")
    assert first.chain_index.tolist() == [0] * 8 + [1] * 4
    assert first.residue_index.tolist() == [*range(1, 9), *range(1, 5)]
    assert first.notes == ()


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("T=0.1, sample=3, score=0.7", "T=0.1_sample=3"),
        ("1BC8, id=2, T=0.1, seed=111, overall_confidence=0.38", "1BC8_id=2"),
        ("1BC8, T=0.1, seed=111", "1BC8"),
        ("sp|P00257|ADX_BOVIN Adrenodoxin, mitochondrial", "sp|P00257|ADX_BOVIN"),
        ("a,b c", "a,b"),
        ("", "record1"),
        ("  ", "record1"),
    ],
)
def test_names_are_first_words_or_items(tmp_path: Path, header: str, name: str) -> None:
    file = tmp_path / "x.fasta"
    file.write_text(f">{header}\nMKV\n")
    assert read_fasta(file) == [(name, "MKV")]


@pytest.mark.parametrize("sequence", ["MKV:GGT", "MKV/GGT", "MKV*/GGT", "MKV/GGT/", "MKV//GGT"])
def test_slashes_and_colons_divide_chains(sequence: str) -> None:
    protein = protein_of_record("x", sequence)
    assert (protein.sequence, protein.chains) == ("MKVGGT", ("A", "B"))
    assert protein.residue_index.tolist() == [1, 2, 3, 1, 2, 3]


def test_more_chains_than_letters_have_different_names() -> None:
    protein = protein_of_record("x", ":".join(["MK"] * 60))
    assert len(set(protein.chains)) == 60
    assert protein.chains[25:28] == ("Z", "A2", "B2")


def test_letters_other_than_amino_acids_are_noted_with_their_positions() -> None:
    protein = protein_of_record("x", "MUKBZOJX")
    assert protein.sequence == "MXKXXXXX"
    assert protein.notes == ("read as X: U at 2, B at 4, Z at 5, O at 6, J at 7",)
    assert protein_of_record("x", "B" * 8).notes == (
        "read as X: B at 1, B at 2, B at 3, B at 4, B at 5, 3 more",
    )
    assert protein_of_record("x", "MKXV").notes == ()


def test_nucleotides_are_noted() -> None:
    assert "DNA or RNA" in protein_of_record("x", "ACGTACGTACGTACGTACGTACGTACGTACGT").notes[0]
    assert protein_of_record("x", "GAGAGAGA").notes == ()


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        ("MK-V", "record x has - at position 3: a gap of an alignment; remove the gaps"),
        ("MK.V", "record x has . at position 3: a gap of an alignment; remove the gaps"),
        ("MK*VL", "record x has * at position 3: a stop codon inside the sequence; split or"),
        ("1MKV", "record x has 1 at position 1: expected letters only"),
        ("MKÉ", "record x has É at position 3: expected letters only"),
        ("", "record x has no sequence"),
        ("/", "record x has no sequence"),
    ],
)
def test_an_invalid_sequence_is_refused_with_the_position(sequence: str, reason: str) -> None:
    with pytest.raises(ValueError, match="record x") as caught:
        protein_of_record("x", sequence)
    assert str(caught.value).startswith(reason)


def test_lower_case_comments_and_repeated_names_are_read(tmp_path: Path) -> None:
    proteins = inputs(tmp_path, "; made by hand\n>a\nmkv\n;half\nlla*\n\n>a\nGGT\n>\nGGS\n>b\n\n")
    assert [p.name for p in proteins if isinstance(p, Protein)] == ["a", "a_2", "record3"]
    assert [p.sequence for p in proteins if isinstance(p, Protein)] == ["MKVLLA", "GGT", "GGS"]
    assert [p.reason for p in proteins if isinstance(p, Refusal)] == ["record b has no sequence"]


def test_a_job_notes_letters_by_protein_and_position(tmp_path: Path) -> None:
    """A Latin-1 letter in a header does not make the file unreadable."""
    file = tmp_path / "x.fasta"
    file.write_bytes(">one Müller\nMKUV\n>two\nMK:GG\n>three\nM-K\n".encode("latin-1"))
    summary = embed_files(SEQUENCE, [file], tmp_path / "out.npz", NPZ)
    assert summary.notes == ("one: read as X: U at 3",)
    assert "record three has - at position 2" in refused_file(tmp_path / "out.npz").read_text()
    with np.load(tmp_path / "out.npz") as content:
        assert content["name"].tolist() == ["one", "two"]
        assert content["chain"].tolist() == ["A"] * 4 + ["A"] * 2 + ["B"] * 2
        assert content["residue_number"].tolist() == [1, 2, 3, 4, 1, 2, 1, 2]


def test_text_before_the_first_record_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "x.fasta"
    file.write_text("MKV\n>a\nMKV\n")
    with pytest.raises(StructureError, match="expected '>' and a name at the start of a FASTA file"):
        read_fasta(file)
    assert is_fasta(Path("X.FASTA.gz"))


@pytest.mark.skipif(not CASE.is_dir(), reason=f"needs {CASE}")
@pytest.mark.parametrize(
    ("name", "count", "chains"), [("mpnn1.fa", 3, 1), ("mpnn.fa", 2, 2), ("colon.fasta", 1, 2)]
)
def test_files_of_bug_reports(name: str, count: int, chains: int) -> None:
    proteins = [item.read() for item in find_inputs([CASE / name], sequence_only=True)]
    assert len({protein.name for protein in proteins if isinstance(protein, Protein)}) == count
    assert [len(protein.chains) for protein in proteins if isinstance(protein, Protein)] == [chains] * count
