"""Read deep mutational scans: variants with scores, and the wild type.

Five layouts of tables are read:

- ProteinGym: ``mutant`` (``A12G:L15V``, positions from 1 in the sequence) and ``DMS_score`` or ``score``;
- ProteinGym with insertions and deletions: ``mutated_sequence`` without ``mutant``, and ``DMS_score``;
- MaveDB: ``hgvs_pro`` (``p.Ala12Gly``) and ``score``;
- nn4dms: ``variant`` (``A11G,L14V``, positions from 0) and ``score``; ``wt.fasta`` may have an offset;
- GB1 of Olson et al. 2014: a column for each part of a mutation, and counts instead of scores.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.formats import structure_formats
from esmgn_core.inference.fasta import is_fasta, read_fasta
from esmgn_core.inference.mutate.notation import Change, NotScored, read_variant
from esmgn_core.io.names import is_structure
from esmgn_core.text import read_lines

_OFFSET = re.compile(r"offset=([0-9]+)")
_TABLES = (".csv", ".tsv")
_REFERENCE = "DMS_substitutions.csv"
_COLUMNS = {"proteingym": "mutant", "mavedb": "hgvs_pro", "nn4dms": "variant"}

_EXPECTED = "mutant and DMS_score, or hgvs_pro and score"
_SCAN_WORDS = {"mutant", "mutation", "mutations", "variant", "hgvs_pro", "dms_score", "fitness"}
"""Lower-case names of columns that suggest a scan in an unknown layout."""
_USUAL_CASE = {
    name.lower(): name
    for name in (
        "mutant",
        "mutated_sequence",
        "DMS_score",
        "score",
        "hgvs_pro",
        "variant",
        "DMS_id",
        "target_seq",
    )
}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NO_SCORE = "without a score"


@dataclass(frozen=True, slots=True)
class Assay:
    """A deep mutational scan.

    Attributes:
        name: name of the table without suffixes.
        table: file with the variants.
        sequence: sequence of the wild type; ``None`` if there is no file with it.
        structure: structure file; ``None`` if there is none.
        problem: why the scan cannot be used; empty if it can.
    """

    name: str
    table: Path
    sequence: str | None
    structure: Path | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Measurements:
    """The content of a table.

    Attributes:
        variants: changes of each variant, numbered as in the table.
        scores: measured score of each variant; higher is fitter.
        left_out: number of skipped rows by reason.
        first: number of the first residue of the sequence in this layout.
        unread: the first unreadable variant; empty if there is none.
    """

    variants: list[tuple[Change, ...]]
    scores: list[float]
    left_out: Counter[str]
    first: int = 1
    unread: str = ""


def find_assays(folder: Path, reference: Path | None = None) -> list[Assay]:
    """Find the scans below a folder.

    The structure and the sequence of the wild type (FASTA, else ``target_seq`` of ProteinGym's reference
    file) are beside the table, or elsewhere below the folder under the name of the table.

    Raises:
        RunError: the folder does not exist or has no scan.
    """
    if not folder.is_dir():
        raise RunError(f"no such folder: {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    reference = reference or next((path for path in files if path.name == _REFERENCE), None)
    kinds = {path: _kind(path) for path in files if _suffix(path) in _TABLES and path != reference}
    tables = {path: kind for path, kind in kinds.items() if kind}
    others = [path for path, kind in kinds.items() if not kind]
    if not tables:
        raise RunError(
            f"no mutational scan in {folder}",
            f"expected .csv or .tsv tables with the columns {_EXPECTED}",
            *(f"{path.name} has the columns {_listed(path)}" for path in others[:3]),
        )
    sequences = _reference_sequences(reference) if reference else {}
    stems = {path: path.parent.name if kind == "gb1" else _stem(path) for path, kind in tables.items()}
    num_named, num_beside = Counter(stems.values()), Counter(path.parent for path in tables)
    assays = []
    for path, stem in stems.items():
        name = stem if num_named[stem] == 1 else str(path.relative_to(folder))
        alone = num_beside[path.parent] == 1
        try:
            structure, sequence = _structure_and_sequence(path, stem, files, alone=alone)
        except EsmgnError as error:
            assays.append(Assay(name, path, None, None, error.message))
        else:
            assays.append(Assay(name, path, sequence or sequences.get(stem), structure))
    for path in others:
        if not _SCAN_WORDS & {name.lower() for name in _columns(path)}:
            continue
        problem = f"not a scan: it has the columns {_listed(path)}, expected {_EXPECTED}"
        assays.append(Assay(str(path.relative_to(folder)), path, None, None, problem))
    return assays


def reference_of(folder: Path) -> Path | None:
    """ProteinGym's reference file below a folder; ``None`` if there is none."""
    return next((path for path in sorted(folder.rglob(_REFERENCE)) if path.is_file()), None)


def _listed(table: Path) -> str:
    columns = _columns(table)
    return ", ".join(columns[:6]) + ", ..." * (len(columns) > 6) if columns else "of an empty file"


def _structure_and_sequence(
    table: Path, stem: str, files: Sequence[Path], *, alone: bool
) -> tuple[Path | None, str | None]:
    """The structure file and the wild-type sequence of a table."""
    formats = structure_formats()
    structures = [path for path in files if is_structure(path.name, formats)]
    twins = {(path.parent, _stem(path)): path for path in structures}  # .pdb comes after .cif and replaces it
    structure = _file_of(table, stem, list(twins.values()), alone=alone)
    fasta = _file_of(table, stem, [path for path in files if is_fasta(path)], alone=alone)
    return structure, read_fasta(fasta)[0][1] if fasta else None


def _file_of(table: Path, stem: str, files: Sequence[Path], *, alone: bool) -> Path | None:
    """The file that belongs to a table; ``None`` if there is none.

    Order of search: a file beside the table with its name; any file beside a table that is alone in its
    folder; a file with its name in any folder.

    Raises:
        RunError: several files qualify equally.
    """
    beside = [path for path in files if path.parent == table.parent]
    named = [path for path in files if _stem(path) == stem]
    for candidates in ([path for path in beside if path in named], beside if alone else [], named):
        if len(candidates) > 1:
            listed = ", ".join(map(str, candidates[:4]))
            raise RunError(f"several files may belong to {table.name}: {listed}; keep one beside the table")
        if candidates:
            return candidates[0]
    return None


def read_measurements(assay: Assay) -> Measurements:
    """Read the variants of a scan and their scores. Skipped rows are counted by reason.

    Raises:
        RunError: the scan has a problem, or its table is unreadable or not a scan.
    """
    if assay.problem:
        raise RunError(assay.problem)
    kind = _kind(assay.table)
    if kind is None:
        raise RunError(f"{assay.table} is not a scan", f"expected the columns {_EXPECTED}")
    if kind == "indels":
        raise RunError(f"{assay.table} has whole sequences, not substitutions")
    first = _offset(assay.table) if kind == "nn4dms" else 1
    measured = Measurements([], [], Counter(), first)
    unread = ""
    for row in read_rows(assay.table):
        if kind == "gb1":
            text, score = _enrichment(row)
        else:
            text, score = row[_COLUMNS[kind]] or "", _number(row.get("DMS_score", row.get("score")))
        variant = read_variant(text)
        if isinstance(variant, NotScored):
            measured.left_out[variant] += 1
            unread = unread or text * (variant is NotScored.UNREADABLE)
        elif not math.isfinite(score):
            measured.left_out[_NO_SCORE] += 1
        else:
            measured.variants.append(variant)
            measured.scores.append(score)
    return replace(measured, unread=unread)


def has_sequences(assay: Assay) -> bool:
    """True for a table of whole sequences, with insertions and deletions."""
    return not assay.problem and _kind(assay.table) == "indels"


def read_sequences(assay: Assay) -> tuple[list[tuple[str, float]], Counter[str]]:
    """Mutated sequences with measured scores, and the number of skipped rows by reason."""
    found: list[tuple[str, float]] = []
    left_out: Counter[str] = Counter()
    for row in read_rows(assay.table):
        sequence = (row["mutated_sequence"] or "").strip().upper()
        score = _number(row["DMS_score"])
        if not sequence or not {*sequence} <= {*AMINO_ACIDS}:
            left_out["not a sequence of the 20 amino acids"] += 1
        elif not math.isfinite(score):
            left_out[_NO_SCORE] += 1
        else:
            found.append((sequence, score))
    return found, left_out


def _enrichment(row: Mapping[str, str | None]) -> tuple[str, float]:
    """The variant, and the log ratio of selected to input counts plus 1/2 (Olson et al. 2014)."""
    selected, before = (_number(row[name]) for name in ("Selection Count", "Input Count"))
    text = "".join(row[name] or "" for name in ("WT amino acid", "Position", "Mutation"))
    return text, math.log((selected + 0.5) / (before + 0.5)) if min(selected, before) >= 0 else math.nan


def _kind(table: Path) -> str | None:
    """The layout of a table by its header; ``None`` for other tables."""
    columns = set(_columns(table))
    if {"WT amino acid", "Position", "Mutation", "Selection Count"} <= columns:
        return "gb1"
    if "variant" in columns and "score" in columns:
        return "nn4dms"
    if "mutant" in columns and columns & {"DMS_score", "score"}:
        return "proteingym"
    if "mutated_sequence" in columns and "DMS_score" in columns:
        return "indels"
    return "mavedb" if "hgvs_pro" in columns and "score" in columns else None


def _columns(table: Path) -> list[str]:
    """Names of the columns, stripped; names of the layouts in their usual case."""
    header = next(csv.reader(_lines(table), delimiter=_separator(table)), [])
    return [_USUAL_CASE.get(name.strip().lower(), name.strip()) for name in header]


def read_rows(table: Path) -> Iterator[dict[str, str | None]]:
    """Rows of a table of comma-, tab- or semicolon-separated values, by column.

    Raises:
        RunError: the table cannot be read.
    """
    try:
        columns = _columns(table)
        reader = csv.DictReader(_lines(table), fieldnames=columns, delimiter=_separator(table))
        next(reader, None)  # the header
        yield from reader
    except csv.Error as error:
        raise RunError(f"cannot read {table}: {error}") from error


def _lines(table: Path) -> Iterator[str]:
    try:
        # MaveDB writes comments before the header.
        lines = dropwhile(lambda line: line.startswith("#"), read_lines(table))
        yield from (f"{line}\n" for line in lines)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {table}: {error}") from error


def _reference_sequences(reference: Path) -> dict[str, str]:
    rows = list(read_rows(reference))
    if not rows or not {"DMS_id", "target_seq"} <= rows[0].keys():
        raise RunError(
            f"{reference} is not a reference file of ProteinGym", "expected columns DMS_id and target_seq"
        )
    sequences: dict[str, str] = {}
    for row in rows:
        name, sequence = row["DMS_id"] or "", row["target_seq"] or ""
        if sequences.setdefault(name, sequence) != sequence:
            raise RunError(f"{reference} has two sequences for '{name}'")
    return sequences


def _offset(table: Path) -> int:
    for fasta in sorted(table.parent.glob("*.fasta")):
        if match := _OFFSET.search(next(_lines(fasta), "")):
            return int(match[1])
    return 0


def _number(text: str | None) -> float:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def _separator(table: Path) -> str:
    """The separator of columns: a comma, a tab, or a semicolon (spreadsheets)."""
    header = next(_lines(table), "")
    usual = "\t" if _suffix(table) == ".tsv" else ","
    return max((usual, ",", "\t", ";"), key=header.count)


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem
