"""The dataset ``csv``: a table of structure files and labels of one's own."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator

from esmgn_core.batch import Protein
from esmgn_core.errors import SettingsError, did_you_mean
from esmgn_core.formats import structure_formats
from esmgn_core.io import Format, Refusal, chain_in, find_structures, no_chain, structure_name
from esmgn_core.printable import counted
from esmgn_core.related import SHARED, Chains, checked, divided, related, split_proteins
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import Shares
from esmgn_datasets.cells import MISSING, Mistakes, Row, read_rows, shown
from esmgn_datasets.labelled import Gathered, LabeledProteins, read_files
from esmgn_datasets.table_labels import TableLabels

_SPLITS = {"val": "valid", "validation": "valid"}
_SPLIT_COLUMN = "split"


class Table(LabeledProteins):
    """Proteins and labels as a table says: a line for each protein, or pair of proteins.

    The first line names the columns; commas or tabs separate them. Files that cannot be read are left
    out, each with its reason.

    Attributes:
        refused: the rows left out, each with its reason.

    Raises:
        SettingsError: no table is given, it lacks a column, or cells are wrong: each is named with its row
            (the header is row 1) and column.
        StructureError: no training protein can be read.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`Table`."""

        table: Path | None = None
        """The table, comma- or tab-separated, with the names of columns in its first line."""
        structures: Path | None = None
        """Folder that the files in the table are relative to; the table's own if not set."""
        kind: Literal["multilabel", "classification", "regression", "pairs"] = "multilabel"
        """``multilabel``: a cell lists classes; ``classification``: it names one; ``regression``: numbers;
        ``pairs``: 1 or 0 for two proteins, wild type and mutant."""
        labels: tuple[str, ...] = ("label",)
        """Columns of labels; several for ``regression`` only."""
        file_column: str = "file"
        """Column of the structure file, or of its name without ending."""
        partner_column: str = "mutant"
        """Column of the mutant's structure file, for ``pairs``."""
        chain_column: str | None = None
        """Column of the chain to take, as ``A``, ``1ABC-A`` or ``1ABC-A-2`` (a copy); not set: all chains."""
        name_column: str | None = None
        """Column of the protein's name; not set: the file, and the chain where one is taken."""
        group_column: str | None = None
        """Column of what a protein belongs to where scores are also taken within groups."""
        split_column: str | None = _SPLIT_COLUMN
        """Column with ``train``, ``valid`` or ``test`` (or ``test_...``, a test set of its own); rows
        with an empty cell are not used. Without a column ``split`` the dataset makes the splits itself."""
        separator: str = Field(",", min_length=1)
        """What stands between the classes of a cell."""
        classes: Path | None = None
        """A file of class names, one a line, that gives their order; not set: all in the table, sorted."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for validation, where no column names splits."""
        test_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for testing, where no column names splits."""
        shared_kmers: float = Field(SHARED, ge=0, le=1)
        """Chains that share this part of the smaller one's 5-mers stay in one split; 0 compares identical
        sequences and fragments of one AlphaFold accession only."""

        @field_validator("labels", mode="before")
        @classmethod
        def _one_or_many(cls, value: object) -> object:
            return (value,) if isinstance(value, str) else value

    def __init__(self, settings: Settings) -> None:
        if settings.table is None:
            raise SettingsError("the dataset 'csv' has no table", "give it one: --set data.table=FILE")
        self._settings, self._table = settings, settings.table
        self._formats = structure_formats()
        mistakes = Mistakes(settings.table)
        rows = self._rows(settings.table)
        self.group_size = 2 if settings.kind == "pairs" else 1
        labels = TableLabels(
            rows,
            mistakes,
            kind=settings.kind,
            columns=settings.labels,
            separator=settings.separator,
            classes=settings.classes,
        )
        files = [self._files(row) for row in rows]
        self._check_rows(rows, files, labels, mistakes)
        mistakes.check()
        gathered = self._gathered(rows, files, labels, mistakes)
        self.hold(gathered, labels.names, classes=settings.kind == "multilabel")

    def _rows(self, table: Path) -> list[Row]:
        """Rows of the table that are to be used."""
        columns, rows = read_rows(table)
        settings = self._settings
        wanted = [settings.file_column, *settings.labels]
        wanted += [settings.partner_column] * (settings.kind == "pairs")
        named = (settings.chain_column, settings.name_column, settings.group_column)
        wanted += [column for column in named if column]
        if settings.split_column and settings.split_column != _SPLIT_COLUMN:
            wanted.append(settings.split_column)
        for column in wanted:
            if column not in columns:
                raise SettingsError(
                    f"the table {table} has no column '{column}'",
                    *did_you_mean(column, columns),
                    f"columns: {', '.join(columns) or 'none'}",
                )
        if settings.kind != "regression" and len(settings.labels) > 1:
            raise SettingsError(f"data.labels must be one column for '{settings.kind}'")
        if len(set(settings.labels)) != len(settings.labels) or not settings.labels:
            raise SettingsError("data.labels must name one column or more, each once")
        self._has_splits = settings.split_column in columns
        used = [row for row in rows if not self._has_splits or row[settings.split_column or ""]]
        if not used:
            raise SettingsError(f"the table {table} has no row to use", f"{counted(len(rows), 'row')} in all")
        return used

    def _check_rows(
        self, rows: Sequence[Row], files: Sequence[Sequence[Path]], labels: TableLabels, mistakes: Mistakes
    ) -> None:
        """Find proteins with two labels, and splits of another name."""
        settings = self._settings
        given: dict[object, tuple[Row, str]] = {}
        for row, paths, values in zip(rows, files, labels.values, strict=True):
            labelled = ", ".join(shown(row[column]) for column in settings.labels)
            content = (*paths, row[settings.chain_column] if settings.chain_column else "")
            own = _comparable(values, classes=settings.kind == "multilabel")
            other, label = given.setdefault(content, (row, own))
            if label != own:
                mistakes.add(
                    row,
                    settings.labels[0],
                    f"{labelled} for the protein of row {other.number}, which has another label",
                )
            if self._has_splits and not _split_name(split := row[settings.split_column or ""]):
                mistakes.add(
                    row, settings.split_column or "", f"{shown(split)} is not train, valid, test or test_NAME"
                )

    def _gathered(
        self, rows: Sequence[Row], files: Sequence[Sequence[Path]], labels: TableLabels, mistakes: Mistakes
    ) -> Gathered:
        settings = self._settings
        found = dict(read_files(sorted({path for paths in files for path in paths if _is_file(path)})))
        gathered, groups = Gathered(notes=list(labels.notes)), []
        named: dict[str, Row] = {}
        for row, paths, values in zip(rows, files, labels.values, strict=True):
            group = self._group(row, paths, found)
            if isinstance(group, Refusal):
                gathered.refused.append(group)
                continue
            groups.append((row, group, values))
            if row is not (first := named.setdefault(group[0].name, row)):
                column = settings.name_column or settings.file_column
                reason = f"{shown(group[0].name)} as in row {first.number}; set data.name_column"
                mistakes.add(row, column, reason)
        mistakes.check()
        if not settings.group_column:
            gathered.notes += _contradictions(groups, classes=settings.kind == "multilabel")
        names, proteins = (
            [row[settings.file_column] for row, _, _ in groups],
            [group[0] for _, group, _ in groups],
        )
        if self._has_splits:
            splits = [_split_name(row[settings.split_column or ""]) for row, _, _ in groups]
            gathered.notes += self._leaks(names, proteins, splits)
        else:
            shares = Shares(settings.valid_fraction, settings.test_fraction)
            splits, notes = split_proteins(names, proteins, shares, shared=settings.shared_kmers)
            gathered.notes += notes
        for split, (_, group, values) in zip(splits, groups, strict=True):
            gathered.add(split, group, values)
        return gathered

    def _leaks(
        self, names: Sequence[str], proteins: Sequence[Protein], splits: Sequence[str]
    ) -> Iterator[str]:
        """Note how many groups of related proteins the given splits divide between training and the rest."""
        shared = self._settings.shared_kmers
        keys = [protein.sequence for protein in proteins]
        groups = related(names, keys, Chains.of(proteins), shared=shared)
        sides = ["train" if split == "train" else "" for split in splits]
        if leaks := divided(groups.tolist(), sides):
            one, other = leaks[0]
            yield (
                f"the given splits divide {counted(len(leaks), 'group')} of related proteins "
                f"between training and evaluation, such as {shown(names[one])} ({splits[one]}) "
                f"and {shown(names[other])} ({splits[other]}); {'; '.join(checked(shared))}"
            )

    def _files(self, row: Row) -> list[Path]:
        settings = self._settings
        folder = settings.structures or self._table.parent
        columns = [settings.file_column] + [settings.partner_column] * (settings.kind == "pairs")
        return [_file(folder, row[column], self._formats) for column in columns]

    def _name(self, row: Row, chain: str) -> str:
        settings = self._settings
        name = row[settings.name_column or settings.file_column]
        if settings.chain_column and not settings.name_column:
            name = f"{name}:{chain}"
        # A slash would say that proteins of one folder belong together.
        name = name.replace("/", ":")
        group = row[settings.group_column] if settings.group_column else ""
        return f"{group}/{name}" if group and group not in MISSING else name

    def _group(
        self, row: Row, paths: Sequence[Path], found: Mapping[Path, Protein | Refusal]
    ) -> list[Protein] | Refusal:
        settings = self._settings
        proteins, taken = [], ""
        for path in paths:
            is_folder = not path.suffix and os.path.isdir(path)  # noqa: PTH112 - as in _is_file
            reason = "no file is named" if is_folder else "there is no such file"
            protein = found.get(path, Refusal(path, f"{reason} (row {row.number})"))
            if isinstance(protein, Protein) and settings.chain_column:
                entry = structure_name(path, self._formats)
                protein = _chain(protein, row[settings.chain_column], path, entry)
                taken = taken or (protein.chains[0] if isinstance(protein, Protein) else "")
            if isinstance(protein, Refusal):
                return protein
            proteins.append(protein)
        name = self._name(row, taken)
        suffixes = ("", ":mutant")
        proteins = [replace(item, name=name + end) for item, end in zip(proteins, suffixes, strict=False)]
        if len({len(protein) for protein in proteins}) > 1:
            return Refusal(paths[0], f"{counted(len(proteins[0]), 'residue')}, its mutant {len(proteins[1])}")
        return proteins


def _comparable(values: Sequence[float], *, classes: bool) -> str:
    """A label as text, in which NaN equals NaN and the order of classes does not matter."""
    return repr(sorted(set(values)) if classes else list(values))


def _contradictions(
    groups: Sequence[tuple[Row, Sequence[Protein], Sequence[float]]], *, classes: bool
) -> Iterator[str]:
    """Note how many proteins have the sequence of another one with another label."""
    first: dict[tuple[str, ...], tuple[Row, str]] = {}
    found = []
    for row, group, values in groups:
        if not any(map(math.isnan, values)):
            label = _comparable(values, classes=classes)
            other, known = first.setdefault(tuple(protein.sequence for protein in group), (row, label))
            if label != known:
                found.append((other.number, row.number))
    if found:
        one, other_number = found[0]
        yield (
            f"{counted(len(found), 'row')} with the sequence of another row and another label, "
            f"such as rows {one} and {other_number}"
        )


def _split_name(cell: str) -> str:
    """``train``, ``valid``, ``test`` or ``test_...``; empty for another cell."""
    name = _SPLITS.get(cell.lower(), cell.lower())
    return name if name in ("train", "valid") or name.startswith("test") else ""


def _file(folder: Path, name: str, formats: Mapping[str, Format]) -> Path:
    """A file as named, else the structure file of this name without ending."""
    path = folder / name
    if _is_file(path) or not path.parent.is_dir():
        return path
    near = path.parent.glob(f"{glob.escape(path.name)}.*")
    return next((found for found in near if find_structures([found], formats)), path)


def _is_file(path: Path) -> bool:
    """True if the path is a file; False also for a cell that is too long for a path."""
    return os.path.isfile(path)  # noqa: PTH113 - ``Path.is_file`` raises for such a path


def _chain(protein: Protein, cell: str, path: Path, entry: str) -> Protein | Refusal:
    """The chain ``A`` or ``1ABC-A`` of the protein in a file; ``entry`` is the file's name, ``1ABC``."""
    chain = chain_in(cell, protein.chains, entry)
    if chain is None:
        return Refusal(path, f"it has {no_chain(cell, protein.chains)}")
    rows = (protein.chain_index == protein.chains.index(chain)).nonzero().flatten()
    return replace(
        protein,
        residue_type=protein.residue_type[rows],
        backbone=protein.backbone[rows],
        atom_mask=protein.atom_mask[rows],
        residue_index=protein.residue_index[rows],
        chain_index=torch.zeros_like(rows),
        plddt=None if protein.plddt is None else protein.plddt[rows],
        insertion_code=None if protein.insertion_code is None else protein.insertion_code[rows],
        chains=(chain,),
        features={name: values[rows] for name, values in protein.features.items()},
    )
