"""Scans are read in the layouts of their authors, and scores are matched to the right residues."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import RunError
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.mutate.assays import Assay, find_assays, read_measurements
from esmgn_core.inference.mutate.fitness import correlate
from esmgn_core.inference.mutate.notation import NotScored, read_variant
from esmgn_core.inference.mutate.numbering import align
from esmgn_core.inference.mutate.scorer import Scorer, load_scorer
from esmgn_core.io import read_protein

from ..conftest import pdb_text
from .conftest import DATA, SEQUENCE

FITNESS = DATA / "fitness"


class Oracle(Scorer):
    """Prefers amino acids late in the alphabet at a masked residue, more strongly at later residues."""

    def __init__(self) -> None:
        super().__init__(None, torch.nn.Identity(), "an oracle")

    def read(self, path: Path) -> Protein:
        return read_protein(path)

    def logits(self, batch: ProteinBatch) -> torch.Tensor:
        masked = batch.residue_type == MASKED
        strength = masked * (1 + batch.residue_index)
        return strength[:, None] * torch.arange(20.0)


def gain(protein: Protein, changes: list[tuple[int, str]]) -> float:
    return sum((2 + at) * (AMINO_ACIDS.index(to) - int(protein.residue_type[at])) for at, to in changes)


def scan(protein: Protein, folder: Path, *, first: int, separator: str, column: str, score: str) -> None:
    """A table whose scores rank variants as the oracle does; two rows have no score."""
    folder.mkdir(parents=True)
    variants = [[(3, "W")], [(3, "C")], [(10, "F")], [(10, "F"), (12, "D")], [(20, "Y")], [(1, "V")]]
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
    """The sequence begins before the structure, as in TEM-1 with its signal peptide."""
    protein = proteins[0]
    scan(protein, tmp_path / "SCAN", first=5, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "SCAN" / "wt.fasta").write_text(f">wt\nMKKL{protein.sequence}\n")
    table = tmp_path / "SCAN" / "SCAN.csv"
    table.write_text(table.read_text() + "K2A,0.5\n")
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert (result.num_variants, result.num_left_out) == (6, 3)
    assert result.spearman == pytest.approx(1)


def test_a_structure_of_another_protein_is_an_error(tmp_path: Path, proteins: list[Protein]) -> None:
    scan(proteins[0], tmp_path / "SCAN", first=1, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "SCAN" / "structure.pdb").write_text(pdb_text(proteins[1]))
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert math.isnan(result.spearman)
    assert "do not match" in result.problem
    (tmp_path / "SCAN" / "structure.pdb").write_text("")
    assert "the file is empty" in correlate(Oracle(), assay, max_residues=4096).problem


REPEAT = "MKHLAEDCWSTV"


class SequenceOracle(Oracle):
    """Scores by the sequence alone."""

    def __init__(self) -> None:
        super(Oracle, self).__init__(None, None, "a sequence oracle")


def helix(*chains: tuple[str, str, int], broken: int = 0) -> Protein:
    """Chains of a name, a sequence and a first number; CA atoms 3.8 A apart, 10 before ``broken``."""
    sequence = "".join(letters for _, letters, _ in chains)
    step = torch.full((len(sequence),), 3.8)
    step[broken] = 10.0
    flat = protein_of_sequence("helix", sequence)
    backbone = torch.zeros(len(sequence), 4, 3)
    backbone[:, :, 0] = step.cumsum(0)[:, None] + torch.arange(4) / 2
    return replace(
        flat,
        backbone=backbone,
        atom_mask=torch.ones(len(sequence), 4, dtype=torch.bool),
        residue_index=torch.cat([torch.arange(first, first + len(s)) for _, s, first in chains]),
        chain_index=torch.cat([torch.full((len(s),), n) for n, (_, s, _) in enumerate(chains)]),
        chains=tuple(name for name, *_ in chains),
    )


def table_of(folder: Path, rows: list[str], column: str = "mutant", **files: str) -> Assay:
    folder.mkdir(exist_ok=True)
    lines = [f"{column},score", *(f'"{row}",{number}' for number, row in enumerate(rows))]
    (folder / "scan.csv").write_text("\n".join(lines) + "\n")
    for ending, text in files.items():
        (folder / f"scan.{ending}").write_text(text)
    [assay] = find_assays(folder)
    return assay


SCANNED = [f"{letter}{place}G" for place, letter in enumerate(REPEAT, 1)]


@pytest.mark.parametrize("row", ["WT", "wt", "_wt", "", "A5=", "p.Lys2=", "K2_", "K2del", "p.Lys2Ter", "?"])
def test_only_rows_without_a_substitution_are_skipped(row: str, tmp_path: Path) -> None:
    assay = table_of(tmp_path, [row, *SCANNED], fasta=f">wt\n{REPEAT}\n")
    result = correlate(SequenceOracle(), assay, max_residues=4096)
    assert (result.problem, result.num_variants, result.num_left_out) == ("", 12, 1)
    assert list(result.left_out) == [read_variant(row)]


def test_a_table_of_mavedb_with_its_comments(tmp_path: Path) -> None:
    rows = ["p.Lys2Ala", "p.(His3Gly)", "p.[Lys2Ala;His3Gly]", "p.=", "NA", "p.Lys2del"]
    text = "".join(f"urn:mavedb:1-a-1#{n},NA,{row},{n}\n" for n, row in enumerate(rows))
    header = "# Accession: urn:mavedb:1-a-1\n# Licence: CC0\naccession,hgvs_nt,hgvs_pro,score\n"
    (tmp_path / "scan.csv").write_text(f"{header}{text}accession,NA,p.Leu4Ala,NA\nshort\n")
    (tmp_path / "scan.fasta").write_text(f">wt\n{REPEAT}\n")
    [assay] = find_assays(tmp_path)
    measured = read_measurements(assay)
    assert ["+".join(map(str, variant)) for variant in measured.variants] == ["K2A", "H3G", "K2A+H3G"]
    assert measured.left_out == {
        NotScored.WILD_TYPE: 1,
        NotScored.EMPTY: 2,
        NotScored.DELETION: 1,
        "without a score": 1,
    }


@pytest.mark.parametrize("score", ["", "NA", "nan", "inf", "-Infinity", "1_5", "\u0661", "high"])
def test_a_score_that_is_not_finite_is_left_out(score: str, tmp_path: Path) -> None:
    assay = table_of(tmp_path, SCANNED, fasta=f">wt\n{REPEAT}\n")
    with assay.table.open("a") as file:
        file.write(f"K2A,{score}\n")
    assert read_measurements(assay).left_out == {"without a score": 1}


def test_the_error_for_a_table_without_a_readable_variant_gives_an_example(tmp_path: Path) -> None:
    assay = table_of(tmp_path, ["k2a", "WT"], fasta=f">wt\n{REPEAT}\n")
    result = correlate(SequenceOracle(), assay, max_residues=4096)
    assert result.problem == "the table has no variant to score: 'k2a', expected a variant such as A12G"
    assert result.num_left_out == 2


@pytest.mark.parametrize(
    ("first", "numbered", "described"),
    [
        (1, 1, "positions from 1 in the sequence"),
        (0, 1, "positions from 0 in the sequence"),
        (101, 101, "residue numbers"),
    ],
)
@pytest.mark.parametrize("scorer", [Oracle(), SequenceOracle()])
def test_the_numbering_that_agrees_with_the_sequence_is_used(
    scorer: Oracle, first: int, numbered: int, described: str, tmp_path: Path
) -> None:
    """Positions from 1 or 0, or the residue numbers of the structure beside it."""
    rows = [f"{letter}{place}G" for place, letter in enumerate(REPEAT, first)]
    structure = pdb_text(helix(("A", REPEAT, numbered)))
    assay = table_of(tmp_path, rows, fasta=f">wt\n{REPEAT}\n", pdb=structure)
    result = correlate(scorer, assay, max_residues=4096)
    assert (result.problem, result.num_variants, result.numbering) == ("", 12, described)


@pytest.mark.parametrize(
    ("chains", "described"),
    [
        ((("A", REPEAT, 101),), "positions from 1 in the structure"),
        ((("A", REPEAT, 1),), "residue numbers"),
        ((("A", "GGHWYRVLKEGG", 1), ("B", REPEAT, 1)), "residue numbers of chain B"),
        ((("A", REPEAT, 1), ("B", REPEAT, 1)), "residue numbers of chain A"),
        ((("A", "GGHWYRVLKEGG", 1), ("B", REPEAT, 40)), "positions from 1 in the structure of chain B"),
    ],
)
def test_without_a_sequence_the_structure_decides(
    chains: tuple[tuple[str, str, int], ...], described: str, tmp_path: Path
) -> None:
    """Two chains have the same numbers; the chain with the wild types of the table is used."""
    assay = table_of(tmp_path, SCANNED, pdb=pdb_text(helix(*chains)))
    result = correlate(Oracle(), assay, max_residues=4096)
    assert (result.problem, result.num_variants, result.numbering) == ("", 12, described)


def test_a_table_that_fits_two_proteins_is_refused(tmp_path: Path) -> None:
    chains = ("A", REPEAT, 1), ("B", REPEAT[:6] + "YYYYYY", 1)
    assay = table_of(tmp_path, SCANNED[:6], pdb=pdb_text(helix(*chains)))
    problem = correlate(Oracle(), assay, max_residues=4096).problem
    assert problem.startswith(
        "the wild types match residue numbers of chain A and residue numbers of chain B"
    )


def test_variants_of_another_wild_type_are_left_out_if_they_are_few(tmp_path: Path) -> None:
    rows = [*SCANNED, "W2G"]
    assay = table_of(tmp_path, rows, fasta=f">wt\n{REPEAT}\n")
    result = correlate(SequenceOracle(), assay, max_residues=4096)
    assert (result.num_variants, dict(result.left_out)) == (12, {"another wild type": 1})
    many = table_of(tmp_path, [*SCANNED, "W2G", "Y3G", "F4G"], fasta=f">wt\n{REPEAT}\n")
    assert "do not match: 12 of 15 agree with positions from 1" in (
        correlate(SequenceOracle(), many, max_residues=4096).problem
    )


def test_a_repeat_is_placed_by_its_residue_numbers() -> None:
    """A structure of the second copy alone, as residues 17 to 28."""
    sequence = REPEAT + "GGSG" + REPEAT
    found = align(sequence, helix(("A", REPEAT, 17)), (1,))
    assert found.rows == {16 + row: row for row in range(12)}
    with pytest.raises(RunError, match="at several places"):
        align(sequence, helix(("A", REPEAT, 501)), (1,))


def test_a_loop_without_coordinates_is_placed_by_the_break_of_the_chain() -> None:
    """Without the chain break, each remaining glycine could be any of five."""
    sequence = "MKHLAGGGGGEDCWST"
    found = align(sequence, helix(("A", "MKHLAGGEDCWST", 301), broken=6), (1,))
    assert found.rows == {place: place for place in range(6)} | {place + 3: place for place in range(6, 13)}
    unbroken = align(sequence, helix(("A", "MKHLAGGEDCWST", 301)), (1,))
    assert set(unbroken.rows) == {*range(5), *range(10, 16)}
    assert unbroken.num_uncertain == 2


def test_the_sequence_finds_its_chain() -> None:
    found = align(REPEAT, helix(("A", "GGHWYRVLKEGG", 1), ("B", REPEAT, 40), ("C", REPEAT, 40)), (1,))
    assert (found.chain, found.rows) == (1, {place: 12 + place for place in range(12)})
    with pytest.raises(RunError, match="only 0 of 12 residues of the structure match the sequence"):
        align(REPEAT, helix(("A", "GGGGGGGGGGGH", 1)), (1,))


def test_tables_of_one_name_have_the_files_beside_them(tmp_path: Path) -> None:
    """Two folders with ``scan.csv`` and ``scan.fasta`` each."""
    for name, sequence in (("one", REPEAT), ("two", REPEAT[::-1])):
        table_of(tmp_path / name, SCANNED, fasta=f">wt\n{sequence}\n")
    found = {assay.name: assay.sequence for assay in find_assays(tmp_path)}
    assert found == {"one/scan.csv": REPEAT, "two/scan.csv": REPEAT[::-1]}


def test_a_scan_with_two_structures_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    table_of(folder, SCANNED)
    for name in ("model.pdb", "xray.pdb", "xray.cif"):
        (folder / name).write_text("")
    [assay] = find_assays(folder)
    problem = correlate(Oracle(), assay, max_residues=4096).problem
    assert problem == (
        f"several files may belong to scan.csv: {folder}/model.pdb, {folder}/xray.pdb; "
        "keep one beside the table"
    )


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
        assert len(measured.scores) + measured.left_out.total() == number
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


@pytest.mark.parametrize("header", ["mutant,DMS_score", "mutant , DMS_score", "Mutant,dms_score"])
@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read(
    header: str, divider: str, tmp_path: Path, proteins: list[Protein]
) -> None:
    """Semicolons and tabs in a .csv, blanks in the header, and other cases."""
    protein = proteins[0]
    scan(protein, tmp_path / "scan", first=1, separator=":", column="mutant", score="DMS_score")
    table = tmp_path / "scan" / "SCAN.csv"
    rows = table.read_text().splitlines()[1:]
    table.write_text("\n".join(line.replace(",", divider) for line in [header, *rows]) + "\n")
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert (result.problem, result.num_variants) == ("", 6)
    assert result.spearman == pytest.approx(1)


def test_a_table_that_looks_like_a_scan_but_is_not_a_scan_is_named(
    tmp_path: Path, proteins: list[Protein]
) -> None:
    scan(proteins[0], tmp_path / "scan", first=1, separator=":", column="mutant", score="DMS_score")
    (tmp_path / "odd.csv").write_text("mutation,effect\nA12G,1.0\n")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    problems = {assay.name: assay.problem for assay in find_assays(tmp_path)}
    assert problems == {
        "SCAN": "",
        "odd.csv": "not a scan: it has the columns mutation, effect, expected mutant and DMS_score, "
        "or hgvs_pro and score",
    }
    (tmp_path / "scan" / "SCAN.csv").unlink()
    with pytest.raises(RunError, match=r"odd\.csv has the columns mutation, effect"):
        find_assays(tmp_path)


def test_equal_scores_have_no_correlation_and_repeated_rows_are_counted(
    tmp_path: Path, proteins: list[Protein]
) -> None:
    scan(proteins[0], tmp_path / "scan", first=1, separator=":", column="mutant", score="DMS_score")
    table = tmp_path / "scan" / "SCAN.csv"
    header, first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, first, first, *rows]) + "\n")
    [assay] = find_assays(tmp_path)
    result = correlate(Oracle(), assay, max_residues=4096)
    assert "rows that repeat a variant, all counted: 1" in result.notes
    table.write_text("\n".join([header, *(f"{line.rpartition(',')[0]},1.0" for line in rows)]) + "\n")
    result = correlate(Oracle(), assay, max_residues=4096)
    assert result.problem == "all measured or all predicted scores are equal"
    assert math.isnan(result.spearman)


def test_a_table_that_is_not_a_scan_has_no_measurements(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("position,score\n1,0.5\n")
    with pytest.raises(RunError, match=r"notes\.csv is not a scan"):
        read_measurements(Assay("notes", tmp_path / "notes.csv", None, None))
