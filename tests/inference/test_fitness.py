"""Scans are read by the rules of their authors, and correlated with scores at the right residues."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import RunError
from esmgn_core.inference.assays import find_assays, read_measurements
from esmgn_core.inference.fitness import correlate
from esmgn_core.inference.heads import Scorer, load_scorer
from esmgn_core.io import read_protein

from ..conftest import pdb_text
from .conftest import DATA, SEQUENCE

FITNESS = DATA / "fitness"


class Oracle(Scorer):
    """Expects at a masked residue the amino acids late in the alphabet, at later residues more strongly."""

    def __init__(self) -> None:
        super().__init__(None, torch.nn.Identity(), "an oracle")  # type: ignore[arg-type]

    def read(self, path: Path) -> Protein:
        return read_protein(path)

    def logits(self, batch: ProteinBatch) -> torch.Tensor:
        masked = batch.residue_type == MASKED
        strength = masked * (1 + batch.residue_index)
        return strength[:, None] * torch.arange(20.0)


def gain(protein: Protein, changes: list[tuple[int, str]]) -> float:
    return sum((2 + at) * (AMINO_ACIDS.index(to) - int(protein.residue_type[at])) for at, to in changes)


def scan(protein: Protein, folder: Path, *, first: int, separator: str, column: str, score: str) -> None:
    """A table whose scores rank variants as the oracle does; two of its rows have none."""
    folder.mkdir(parents=True)
    variants = [[(3, "W")], [(3, "C")], [(10, "F")], [(10, "F"), (12, "D")], [(20, "Y")], [(1, "A")]]
    lines = [f"{column},{score}"]
    for changes in variants:
        names = [f"{protein.sequence[at]}{at + first}{to}" for at, to in changes]
        lines.append(f'"{separator.join(names)}",{gain(protein, changes) ** 3}')
    lines += [f"{protein.sequence[5]}{5 + first}*,1.0", f"{protein.sequence[5]}{5 + first}A,"]
    (folder / "SCAN.csv").write_text("\n".join(lines) + "\n")
    (folder / "structure.pdb").write_text(pdb_text(protein))


@pytest.mark.parametrize("layout", ["proteingym", "nn4dms"])
def test_scores_that_rank_alike_correlate_by_one(
    layout: str, tmp_path: Path, proteins: list[Protein]
) -> None:
    protein = proteins[0]
    if layout == "proteingym":
        scan(protein, tmp_path / "SCAN", first=1, separator=":", column="mutant", score="DMS_score")
        (tmp_path / "SCAN" / "wt.fasta").write_text(f">wt\n{protein.sequence}\n")
    else:
        scan(protein, tmp_path / "SCAN", first=40, separator=",", column="variant", score="score")
        (tmp_path / "SCAN" / "wt.fasta").write_text(f">wt offset=40\n{protein.sequence}\n")
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert (result.problem, result.num_variants, result.num_left_out) == ("", 6, 2)
    assert result.spearman == pytest.approx(1)


def test_positions_without_coordinates_are_left_out(tmp_path: Path, proteins: list[Protein]) -> None:
    """The sequence begins before the structure, as that of TEM-1 with its signal peptide does."""
    protein = proteins[0]
    scan(protein, tmp_path / "SCAN", first=5, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "SCAN" / "wt.fasta").write_text(f">wt\nMKKL{protein.sequence}\n")
    table = tmp_path / "SCAN" / "SCAN.csv"
    table.write_text(table.read_text() + "K2A,0.5\n")
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert (result.num_variants, result.num_left_out) == (6, 3)
    assert result.spearman == pytest.approx(1)


def test_a_structure_of_another_protein_is_told(tmp_path: Path, proteins: list[Protein]) -> None:
    scan(proteins[0], tmp_path / "SCAN", first=1, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "SCAN" / "structure.pdb").write_text(pdb_text(proteins[1]))
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert math.isnan(result.spearman)
    assert "do not fit" in result.problem
    (tmp_path / "SCAN" / "structure.pdb").write_text("")
    assert "the file is empty" in correlate(Oracle(), assay, max_residues=4096).problem


def test_sequences_come_from_the_reference_file(tmp_path: Path, proteins: list[Protein]) -> None:
    scan(proteins[0], tmp_path / "tables", first=1, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "DMS_substitutions.csv").write_text(f"DMS_id,target_seq\nSCAN,{proteins[0].sequence}\n")
    [assay] = find_assays(tmp_path)
    assert assay.sequence == proteins[0].sequence
    assert assay.structure == tmp_path / "tables" / "structure.pdb"


def test_a_folder_without_scans_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(RunError, match="no mutational scan in"):
        find_assays(tmp_path)


@pytest.mark.skipif(not FITNESS.is_dir(), reason=f"needs the mutational scans in {FITNESS}")
def test_the_public_scans_are_read_whole() -> None:
    found = {assay.name: assay for assay in find_assays(FITNESS)}
    expected = {
        "avgfp": 54_024,
        "bgl3": 26_653,
        "pab1": 40_852,
        "gb1": 1_045,
        "BLAT_ECOLX_Stiffler_2015": 4_996,
        "A0A1I9GEU1_NEIME_Kennouche_2019": 922,
    }
    for name, number in expected.items():
        measured = read_measurements(found[name])
        assert len(measured.scores) + measured.num_left_out == number
        assert found[name].structure
        assert found[name].sequence


@pytest.mark.parametrize("name", ["gb1", "proteingym"])
@pytest.mark.skipif(not FITNESS.is_dir(), reason=f"needs the mutational scans in {FITNESS}")
def test_public_scans_run_to_a_correlation(name: str) -> None:
    scorer: Any = load_scorer(SEQUENCE, device="cpu")
    for assay in find_assays(FITNESS / name):
        result = correlate(scorer, assay, max_residues=16_384)
        assert result.problem == ""
        assert -1 < result.spearman < 1
        structural = correlate(Oracle(), assay, max_residues=16_384)
        assert structural.problem == ""
        # 1M40 is the mutant M182T: the 19 variants of M182 are not scored on it.
        assert structural.num_left_out == (19 if assay.name.startswith("BLAT") else 0)
