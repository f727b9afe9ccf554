"""The dataset ``csv``: a user's table of structure files and labels."""

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
    """Proteins and labels of a table with one row for each protein or pair of proteins.

    The first line names the columns, separated by commas or tabs. Files that cannot be read are left out,
    each with its reason.

    Attributes:
        refused: the rows left out, each with its reason.

    Raises:
        SettingsError: no table is given, it lacks a column, or cells are wrong. The message lists wrong
            cells by row (the header is row 1) and column.
        StructureError: no training protein can be read.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`Table`."""

        table: Path | None = None
        """Comma- or tab-separated table with the column names in its first line."""
        structures: Path | None = None
        """Folder that file names are relative to. If not set, the folder of the table."""
        kind: Literal["multilabel", "classification", "regression", "pairs"] = "multilabel"
        """Kind of label: ``multilabel`` (a list of classes), ``classification`` (one class), ``regression``
        (numbers), or ``pairs`` (1 or 0 for a wild type and its mutant)."""
        labels: tuple[str, ...] = ("label",)
        """Columns of labels. Only ``regression`` takes several."""
        file_column: str = "file"
        """Column of the structure file, or of its name without suffix."""
        partner_column: str = "mutant"
        """Column of the mutant's structure file, for ``pairs``."""
        chain_column: str | None = None
        """Column of the chain to read: ``A``, ``1ABC-A`` or ``1ABC-A-2`` (a copy). If not set, all chains."""
        name_column: str | None = None
        """Column of the protein's name. If not set, the file name, with the chain if one is selected."""
        group_column: str | None = None
        """Column of the protein's group, such as its target. Scores are also computed within groups."""
        split_column: str | None = _SPLIT_COLUMN
        """Column with ``train``, ``valid``, ``test`` or ``test_NAME`` (another test set). Rows with an empty
        cell are not used. If the table has no column ``split``, the dataset makes the splits."""
        separator: str = Field(",", min_length=1)
        """Text between the classes of a cell."""
        classes: Path | None = None
        """File of class names, one per line, in the order to use. If not set, the classes of the table,
        sorted."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for validation, without a column of splits."""
        test_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for testing, without a column of splits."""
        shared_kmers: float = Field(SHARED, ge=0, le=1)
        """Chains that share at least this part of the shorter chain's 5-mers are in one split. 0 compares
        identical sequences and fragments of one AlphaFold accession only."""

        @field_validator("labels", mode="before")
        @classmethod
        def _one_or_many(cls, value: object) -> object:
            return (value,) if isinstance(value, str) else value

    def __init__(self, settings: Settings) -> None:
        if settings.table is None:
            raise SettingsError("the dataset 'csv' needs a table", "set it: --set data.table=FILE")
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
        """Rows of the table to use: all, or those with a split."""
        columns, rows = read_rows(table)
        settings = self._settings
        required = [settings.file_column, *settings.labels]
        required += [settings.partner_column] * (settings.kind == "pairs")
        optional = (settings.chain_column, settings.name_column, settings.group_column)
        required += [column for column in optional if column]
        if settings.split_column and settings.split_column != _SPLIT_COLUMN:
            required.append(settings.split_column)
        for column in required:
            if column not in columns:
                raise SettingsError(
                    f"the table {table} has no column '{column}'",
                    *did_you_mean(column, columns),
                    f"columns: {', '.join(columns) or 'none'}",
                )
        if settings.kind != "regression" and len(settings.labels) > 1:
            raise SettingsError(f"data.labels must be one column for '{settings.kind}'")
        if len(set(settings.labels)) != len(settings.labels) or not settings.labels:
            raise SettingsError("data.labels must name at least one column, each once")
        self._has_splits = settings.split_column in columns
        used = [row for row in rows if not self._has_splits or row[settings.split_column or ""]]
        if not used:
            raise SettingsError(f"the table {table} has no row to use", f"{counted(len(rows), 'row')} in all")
        return used

    def _check_rows(
        self, rows: Sequence[Row], files: Sequence[Sequence[Path]], labels: TableLabels, mistakes: Mistakes
    ) -> None:
        """Find proteins with two labels, and unknown names of splits."""
        settings = self._settings
        first_use: dict[object, tuple[Row, str]] = {}
        for row, paths, values in zip(rows, files, labels.values, strict=True):
            content = (*paths, row[settings.chain_column] if settings.chain_column else "")
            label = _comparable(values, classes=settings.kind == "multilabel")
            first_row, first_label = first_use.setdefault(content, (row, label))
            if label != first_label:
                cells = ", ".join(shown(row[column]) for column in settings.labels)
                reason = f"{cells} for the protein of row {first_row.number}, which has another label"
                mistakes.add(row, settings.labels[0], reason)
            if self._has_splits and not _split_name(split := row[settings.split_column or ""]):
                reason = f"{shown(split)} is not train, valid, test or test_NAME"
                mistakes.add(row, settings.split_column or "", reason)

    def _gathered(
        self, rows: Sequence[Row], files: Sequence[Sequence[Path]], labels: TableLabels, mistakes: Mistakes
    ) -> Gathered:
        """Read the proteins and assign them to splits."""
        settings = self._settings
        read = dict(read_files(sorted({path for paths in files for path in paths if _is_file(path)})))
        gathered, groups = Gathered(notes=list(labels.notes)), []
        first_row: dict[str, Row] = {}
        for row, paths, values in zip(rows, files, labels.values, strict=True):
            group = self._group(row, paths, read)
            if isinstance(group, Refusal):
                gathered.refused.append(group)
                continue
            groups.append((row, group, values))
            if row is not (first := first_row.setdefault(group[0].name, row)):
                column = settings.name_column or settings.file_column
                reason = f"{shown(group[0].name)} as in row {first.number}; set data.name_column"
                mistakes.add(row, column, reason)
        mistakes.check()
        if not settings.group_column:
            gathered.notes += _contradictions(groups, classes=settings.kind == "multilabel")
        names = [row[settings.file_column] for row, _, _ in groups]
        proteins = [group[0] for _, group, _ in groups]
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
        """Note the groups of related proteins that the given splits divide."""
        shared = self._settings.shared_kmers
        keys = [protein.sequence for protein in proteins]
        groups = related(names, keys, Chains.of(proteins), shared=shared)
        sides = ["train" if split == "train" else "" for split in splits]
        if leaks := divided(groups.tolist(), sides):
            first, second = leaks[0]
            yield (
                f"the given splits divide {counted(len(leaks), 'group')} of related proteins "
                f"between training and evaluation, such as {shown(names[first])} ({splits[first]}) "
                f"and {shown(names[second])} ({splits[second]}); {'; '.join(checked(shared))}"
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
        # A slash divides group and protein in a name, and proteins of one folder are not a group.
        name = name.replace("/", ":")
        group = row[settings.group_column] if settings.group_column else ""
        return f"{group}/{name}" if group and group not in MISSING else name

    def _group(
        self, row: Row, paths: Sequence[Path], read: Mapping[Path, Protein | Refusal]
    ) -> list[Protein] | Refusal:
        """The protein of a row, or wild type and mutant; the reason if one cannot be used."""
        settings = self._settings
        proteins, chain = [], ""
        for path in paths:
            is_folder = not path.suffix and os.path.isdir(path)  # noqa: PTH112 - as in _is_file
            reason = "no file is named" if is_folder else "there is no such file"
            protein = read.get(path, Refusal(path, f"{reason} (row {row.number})"))
            if isinstance(protein, Protein) and settings.chain_column:
                entry = structure_name(path, self._formats)
                protein = _chain(protein, row[settings.chain_column], path, entry)
                chain = chain or (protein.chains[0] if isinstance(protein, Protein) else "")
            if isinstance(protein, Refusal):
                return protein
            proteins.append(protein)
        name = self._name(row, chain)
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
    """Note the proteins that have the sequence of another one and another label."""
    first_use: dict[tuple[str, ...], tuple[Row, str]] = {}
    pairs = []
    for row, group, values in groups:
        if not any(map(math.isnan, values)):
            label = _comparable(values, classes=classes)
            sequences = tuple(protein.sequence for protein in group)
            first_row, first_label = first_use.setdefault(sequences, (row, label))
            if label != first_label:
                pairs.append((first_row.number, row.number))
    if pairs:
        first, second = pairs[0]
        yield (
            f"{counted(len(pairs), 'row')} with the sequence of another row and another label, "
            f"such as rows {first} and {second}"
        )


def _split_name(cell: str) -> str:
    """The split that a cell names: ``train``, ``valid``, ``test`` or ``test_...``; else empty."""
    name = _SPLITS.get(cell.lower(), cell.lower())
    return name if name in ("train", "valid") or name.startswith("test") else ""


def _file(folder: Path, name: str, formats: Mapping[str, Format]) -> Path:
    """Path of a named file, or of the structure file whose name without suffix this is."""
    path = folder / name
    if _is_file(path) or not path.parent.is_dir():
        return path
    near = path.parent.glob(f"{glob.escape(path.name)}.*")
    return next((file for file in near if find_structures([file], formats)), path)


def _is_file(path: Path) -> bool:
    """True if the path is a file. False also if the cell is too long for a path."""
    return os.path.isfile(path)  # noqa: PTH113 - ``Path.is_file`` raises for a path that is too long


def _chain(protein: Protein, cell: str, path: Path, entry: str) -> Protein | Refusal:
    """Select the chain that a cell such as ``A`` or ``1ABC-A`` names in the file named ``entry``, 1ABC."""
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
