"""The dataset ``csv``: a table of structure files and labels of one's own."""

from __future__ import annotations

import csv
import glob
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator

from esmgn_core.batch import Protein
from esmgn_core.chains import chain_in, no_chain
from esmgn_core.errors import SettingsError, did_you_mean
from esmgn_core.io import Refusal, find_structures
from esmgn_core.io.files import structure_name
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import held_out
from esmgn_core.text import read_lines, read_text
from esmgn_datasets.labelled import Gathered, LabelledProteins, read_files

_SPLITS = {"val": "valid", "validation": "valid"}
Row = Mapping[str, str]


class Table(LabelledProteins):
    """Proteins and labels as a table says: a line for each protein, or pair of proteins.

    The first line names the columns; commas or tabs separate them. Files that cannot be read are left
    out, each with its reason.

    Attributes:
        refused: the rows left out, each with its reason.

    Raises:
        SettingsError: no table is given, or it lacks a column, or a cell is wrong.
        StructureError: no training protein can be read.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`Table`."""

        table: Path | None = None
        """The table, comma- or tab-separated, with the names of columns in its first line."""
        structures: Path | None = None
        """Folder that the files in the table are relative to; the table's own if not set."""
        kind: Literal["multilabel", "classification", "regression", "pairs"] = "multilabel"
        """``multilabel``: a cell lists classes; ``classification``: it names one; ``regression``: numbers,
        empty for unknown; ``pairs``: 1 or 0 for two proteins, wild type and mutant."""
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
        split_column: str | None = "split"
        """Column with ``train``, ``valid`` or ``test`` (or ``test_...``, a test set of its own); rows
        with an empty cell are not used. Where there is no such column, sequences are held out at random."""
        separator: str = ","
        """What stands between the classes of a cell."""
        classes: Path | None = None
        """A file of class names, one a line, that gives their order; not set: all in the table, sorted."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the sequences held out for validation where no column tells splits."""
        test_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the sequences held out for testing where no column tells splits."""

        @field_validator("labels", mode="before")
        @classmethod
        def _one_or_many(cls, value: object) -> object:
            return (value,) if isinstance(value, str) else value

    def __init__(self, settings: Settings) -> None:
        if settings.table is None:
            raise SettingsError("the dataset 'csv' has no table", "give it one: --set data.table=FILE")
        self._settings, self._table = settings, settings.table
        rows = self._rows(settings.table)
        self.group_size = 2 if settings.kind == "pairs" else 1
        names = self._label_names(rows)
        number = {name: place for place, name in enumerate(names)}
        self.hold(self._gathered(rows, number), names, classes=settings.kind == "multilabel")

    def _rows(self, table: Path) -> list[Row]:
        try:
            text = read_text(table)
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read the table {table}: {error}") from error
        first = text.partition("\n")[0]
        delimiter = "\t" if "\t" in first else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        rows: list[Row] = list(reader)
        columns = list(reader.fieldnames or [])
        settings = self._settings
        wanted = [settings.file_column, *settings.labels]
        wanted += [settings.partner_column] * (settings.kind == "pairs")
        wanted += [
            column
            for column in (settings.chain_column, settings.name_column, settings.group_column)
            if column
        ]
        for column in wanted:
            if column not in columns:
                raise SettingsError(
                    f"the table {table} has no column '{column}'",
                    *did_you_mean(column, columns),
                    f"columns: {', '.join(columns) or 'none'}",
                )
        if settings.kind != "regression" and len(settings.labels) > 1:
            raise SettingsError(f"data.labels must be one column for '{settings.kind}'")
        return [row for row in rows if row.get(settings.split_column or "", "-").strip()]

    def _label_names(self, rows: Sequence[Row]) -> list[str]:
        settings = self._settings
        if settings.kind in ("regression", "pairs"):
            return list(settings.labels)
        if settings.classes is None:
            return sorted({name for row in rows for name in self._cells(row)})
        try:
            lines = list(read_lines(settings.classes))
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read the file of classes {settings.classes}: {error}") from error
        return [line.strip() for line in lines if line.strip()]

    def _cells(self, row: Row) -> list[str]:
        cell = row[self._settings.labels[0]].strip()
        if self._settings.kind == "classification":
            return [cell] * bool(cell)
        return [name.strip() for name in cell.split(self._settings.separator) if name.strip()]

    def _gathered(self, rows: Sequence[Row], number: Mapping[str, int]) -> Gathered:
        files = [self._files(row) for row in rows]
        found = dict(read_files(sorted({path for paths in files for path in paths if path.is_file()})))
        gathered, seen = Gathered(), set()
        for row, paths in zip(rows, files, strict=True):
            group = self._group(row, paths, found)
            if isinstance(group, Refusal):
                gathered.refused.append(group)
                continue
            if group[0].name in seen:
                raise SettingsError(
                    f"two rows of {self._table} are called '{group[0].name}'",
                    "name a column that tells them apart: --set data.name_column=COLUMN",
                )
            seen.add(group[0].name)
            gathered.add(self._split(row, group[0]), group, self._label(row, number))
        return gathered

    def _files(self, row: Row) -> list[Path]:
        settings = self._settings
        folder = settings.structures or self._table.parent
        columns = [settings.file_column] + [settings.partner_column] * (settings.kind == "pairs")
        return [_file(folder, row[column].strip()) for column in columns]

    def _group(
        self, row: Row, paths: Sequence[Path], found: Mapping[Path, Protein | Refusal]
    ) -> list[Protein] | Refusal:
        settings = self._settings
        proteins, taken = [], ""
        for path in paths:
            protein = found.get(path, Refusal(path, "there is no such file"))
            if isinstance(protein, Protein) and settings.chain_column:
                protein = _chain(protein, row[settings.chain_column].strip(), path)
                taken = taken or (protein.chains[0] if isinstance(protein, Protein) else "")
            if isinstance(protein, Refusal):
                return protein
            proteins.append(protein)
        name = row[settings.name_column or settings.file_column].strip()
        if settings.chain_column and not settings.name_column:
            name = f"{name}:{taken}"
        # A slash would say that proteins of one folder belong together.
        name = name.replace("/", ":")
        name = f"{row[settings.group_column].strip()}/{name}" if settings.group_column else name
        suffixes = ("", ":mutant")
        proteins = [replace(item, name=name + end) for item, end in zip(proteins, suffixes, strict=False)]
        if len({len(protein) for protein in proteins}) > 1:
            return Refusal(paths[0], f"{len(proteins[0])} residues, its mutant {len(proteins[1])}")
        return proteins

    def _split(self, row: Row, protein: Protein) -> str:
        settings = self._settings
        if settings.split_column and settings.split_column in row:
            cell = row[settings.split_column].strip().lower()
            name = _SPLITS.get(cell, cell)
            if name not in ("train", "valid") and not name.startswith("test"):
                raise SettingsError(
                    f"'{row[settings.split_column]}' is no split",
                    f"it stands in the column '{settings.split_column}' of {self._table}",
                    "expected train, valid, test or test_NAME",
                )
            return name
        if held_out(f"test {protein.sequence}", settings.test_fraction):
            return "test"
        return "valid" if held_out(protein.sequence, settings.valid_fraction) else "train"

    def _label(self, row: Row, number: Mapping[str, int]) -> list[float]:
        settings = self._settings
        if settings.kind in ("regression", "pairs"):
            return [self._value(row, column) for column in settings.labels]
        unknown = [name for name in self._cells(row) if name not in number]
        if unknown:
            raise SettingsError(
                f"'{unknown[0]}' is not in {settings.classes}",
                f"it stands in the column '{settings.labels[0]}' of {self._table}",
            )
        numbers: list[float] = [number[name] for name in self._cells(row)]
        return numbers if numbers or settings.kind == "multilabel" else [math.nan]

    def _value(self, row: Row, column: str) -> float:
        cell = row[column].strip()
        try:
            return float(cell) if cell else math.nan
        except ValueError:
            raise SettingsError(f"'{cell}' is no number (column '{column}' of {self._table})") from None


def _file(folder: Path, name: str) -> Path:
    """A file as named, else the structure file of this name without ending."""
    path = folder / name
    if path.is_file() or not path.parent.is_dir():
        return path
    near = [found for found in path.parent.glob(f"{glob.escape(path.name)}.*") if find_structures([found])]
    return near[0] if near else path


def _chain(protein: Protein, cell: str, path: Path) -> Protein | Refusal:
    """The chain that ``A`` or ``1ABC-A`` names."""
    chain = chain_in(cell, protein.chains, structure_name(path))
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
