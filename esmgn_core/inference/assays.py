"""Deep mutational scans on disk: variants with measured scores, and the structure they belong to.

Two layouts are read. ProteinGym: tables with ``mutant`` (``A12G:L15V``, positions from 1 in the
sequence) and ``DMS_score`` or ``score``. nn4dms: tables with ``variant`` (``A11G,L14V``, positions
from 0) and ``score``; an offset stands in the header of ``wt.fasta``. GB1 of Olson et al. 2014 has
one column for each letter and number, and counts instead of scores.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import RunError
from esmgn_core.inference.inputs import is_fasta, read_fasta
from esmgn_core.io.files import STRUCTURE_SUFFIXES
from esmgn_core.text import read_lines

_MUTATION = re.compile(r"([A-Z])(\d+)([A-Z*])")
_OFFSET = re.compile(r"offset=(\d+)")
_TABLES = (".csv", ".tsv")
_REFERENCE = "DMS_substitutions.csv"

Change = tuple[str, int, str]
"""Wild type, position in the sequence counted from 0, mutant."""


@dataclass(frozen=True, slots=True)
class Assay:
    """A scan.

    Attributes:
        name: of its table, without endings.
        table: its file.
        sequence: of the wild type; ``None`` where no file tells it: positions are residue numbers then.
        structure: a file; ``None`` where there is none.
    """

    name: str
    table: Path
    sequence: str | None
    structure: Path | None


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a table holds.

    Attributes:
        variants: changes of each variant.
        scores: its measured score; higher is fitter.
        num_left_out: rows without a number, or with a stop codon.
    """

    variants: list[tuple[Change, ...]]
    scores: list[float]
    num_left_out: int


def find_assays(folder: Path, reference: Path | None = None) -> list[Assay]:
    """The scans below a folder, by name.

    Beside a table, or of its name elsewhere below the folder, stand the sequence of the wild type
    (FASTA, else ``target_seq`` of ProteinGym's reference file) and the structure.

    Raises:
        RunError: there is no such folder, or no scan in it.
    """
    if not folder.is_dir():
        raise RunError(f"no such folder: {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [path for path in files if _suffix(path) in _TABLES and _kind(path)]
    if not tables:
        raise RunError(
            f"no mutational scan in {folder}",
            "looked for .csv and .tsv tables with the columns mutant and DMS_score",
        )
    reference = reference or next((path for path in files if path.name == _REFERENCE), None)
    sequences = _reference_sequences(reference) if reference else {}
    return [_assay(path, files, sequences) for path in tables]


def _assay(table: Path, files: Iterable[Path], sequences: Mapping[str, str]) -> Assay:
    name = _stem(table)
    kind = _kind(table)
    name = table.parent.name if kind == "gb1" else name
    beside = [path for path in files if path.parent == table.parent]
    named = [path for path in files if _stem(path) == name]
    fasta = next((path for path in [*named, *beside] if is_fasta(path)), None)
    structure = next((path for path in [*named, *beside] if _suffix(path) in STRUCTURE_SUFFIXES), None)
    alone = sum(_kind(path) is not None for path in beside if _suffix(path) in _TABLES) == 1
    if not alone:  # a folder of many tables: what stands beside one belongs to any of them
        structure = next((path for path in named if _suffix(path) in STRUCTURE_SUFFIXES), None)
        fasta = next((path for path in named if is_fasta(path)), None)
    sequence = read_fasta(fasta)[0][1] if fasta else sequences.get(name)
    return Assay(name, table, sequence, structure)


def read_measurements(assay: Assay) -> Measurements:
    """The variants of a scan and their scores.

    Raises:
        RunError: a variant cannot be read.
    """
    kind, rows = _kind(assay.table), _rows(assay.table)
    if kind == "gb1":
        return _enrichments(rows)
    column, first = ("variant", _offset(assay.table)) if kind == "nn4dms" else ("mutant", 1)
    variants, scores, left_out = [], [], 0
    for row in rows:
        changes = [_change(part, first, assay) for part in re.split("[,:]", row[column].strip())]
        score = _number(row.get("DMS_score", row.get("score", "")))
        if math.isnan(score) or any(mutant not in AMINO_ACIDS for *_, mutant in changes):
            left_out += 1
            continue
        variants.append(tuple(changes))
        scores.append(score)
    return Measurements(variants, scores, left_out)


def _enrichments(rows: Iterable[Mapping[str, str]]) -> Measurements:
    """Logarithms of selected over input counts, with half a count added: Olson et al. 2014."""
    variants: list[tuple[Change, ...]] = []
    scores = []
    for row in rows:
        selected, before = (_number(row[name]) for name in ("Selection Count", "Input Count"))
        variants.append(((row["WT amino acid"], int(row["Position"]) - 1, row["Mutation"]),))
        scores.append(math.log((selected + 0.5) / (before + 0.5)))
    return Measurements(variants, scores, 0)


def _change(text: str, first: int, assay: Assay) -> Change:
    match = _MUTATION.fullmatch(text)
    if not match:
        raise RunError(f"cannot read the variant '{text}' in {assay.table}", "expected such as A12G")
    return match[1], int(match[2]) - first, match[3]


def _kind(table: Path) -> str | None:
    """Layout of a table by its header; ``None`` for a table of something else."""
    columns = set(next(csv.reader(_lines(table), delimiter=_separator(table)), []))
    if {"WT amino acid", "Position", "Mutation", "Selection Count"} <= columns:
        return "gb1"
    if "variant" in columns and "score" in columns:
        return "nn4dms"
    return "proteingym" if "mutant" in columns and columns & {"DMS_score", "score"} else None


def _rows(table: Path) -> Iterable[dict[str, str]]:
    return csv.DictReader(_lines(table), delimiter=_separator(table))


def _lines(table: Path) -> Iterator[str]:
    try:
        yield from (f"{line}\n" for line in read_lines(table))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {table}: {error}") from error


def _reference_sequences(reference: Path) -> dict[str, str]:
    rows = list(_rows(reference))
    if not rows or not {"DMS_id", "target_seq"} <= rows[0].keys():
        raise RunError(
            f"{reference} is no reference file of ProteinGym", "expected columns DMS_id and target_seq"
        )
    return {row["DMS_id"]: row["target_seq"] for row in rows}


def _offset(table: Path) -> int:
    for fasta in sorted(table.parent.glob("*.fasta")):
        if found := _OFFSET.search(next(_lines(fasta), "")):
            return int(found[1])
    return 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _separator(table: Path) -> str:
    return "\t" if _suffix(table) == ".tsv" else ","


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem
