"""From parts to the columns of an embedding file, in the order of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.inference.parts import Part, Record

PROTEIN, RESIDUE = "protein", "residue"
_ROWS_AT_ONCE = 4096
_LETTERS = np.array(list(AMINO_ACIDS + "X"))

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tensors of one protein lie: a part, the place among its proteins, the first row."""

    part: Part
    number: int
    first_row: int


class Assembled:
    """The results of a job as columns.

    Columns of vectors, ``protein`` [B, D] and ``residue`` [N, D], are read block by block; all others
    are kept in memory.

    Attributes:
        records: of the B embedded proteins, in the order of the inputs.
        proteins: columns with B rows by name: ``name``, ``path``, ``num_residues``.
        residues: columns with N rows by name: ``chain``, ``residue_number``, ``insertion_code``,
            ``residue_letter``, ``plddt``; none at the level of proteins.
        vectors: names of the columns of vectors there are.
        width: D.
    """

    def __init__(self, parts: Sequence[Part], keys: Sequence[str], level: str) -> None:
        places = {
            record.key: (record, Place(part, number, first))
            for part in parts
            for record, number, first in part.embedded()
        }
        chosen = [places[key] for key in keys if key in places]
        self.records: list[Record] = [record for record, _ in chosen]
        self._places = [place for _, place in chosen]
        self._open: tuple[Path, Any] | None = None
        self.vectors = [name for name in (PROTEIN, RESIDUE) if level in (name, "both")]
        self.proteins: dict[str, Array] = {
            "name": np.array([record.name for record in self.records], dtype=str),
            "path": np.array([record.path for record in self.records], dtype=str),
            "num_residues": np.array([record.length for record in self.records], dtype=np.int64),
        }
        self.residues = self._residue_columns() if RESIDUE in self.vectors else {}
        self.width = next((block.shape[1] for _, block in self.blocks(self.vectors[0])), 0)

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of each column of vectors."""
        return {PROTEIN: len(self.records), RESIDUE: int(self.proteins["num_residues"].sum())}

    def blocks(self, name: str) -> Iterator[tuple[int, Array]]:
        """A column of vectors, as first row and float32 [rows, D], a few thousand rows at a time."""
        first, waiting, number = 0, [], 0
        for record, place in zip(self.records, self._places, strict=True):
            start = place.number if name == PROTEIN else place.first_row
            rows = 1 if name == PROTEIN else record.length
            waiting.append(self._slice(place.part, name, start, rows))
            number += rows
            if number >= _ROWS_AT_ONCE:
                yield first, np.concatenate(waiting)
                first, waiting, number = first + number, [], 0
        if waiting:
            yield first, np.concatenate(waiting)

    def _slice(self, part: Part, name: str, start: int, rows: int) -> Array:
        # One file at a time: what was read of a mapped file counts as memory of the process.
        if self._open is None or self._open[0] != part.path:
            self._open = part.path, safe_open(part.path, "np")
        array: Array = self._open[1].get_slice(name)[start : start + rows]
        return array

    def _residue_columns(self) -> dict[str, Array]:
        names = ("residue_number", "insertion_code", "residue_type", "plddt")
        chains: list[Array] = []
        columns: dict[str, list[Array]] = {name: [] for name in names}
        for record, place in zip(self.records, self._places, strict=True):
            for name, column in columns.items():
                column.append(self._slice(place.part, name, place.first_row, record.length))
            index = self._slice(place.part, "chain_index", place.first_row, record.length)
            chains.append(np.array(record.chains, dtype=str)[index])
        joined = {name: _joined(column) for name, column in columns.items()}
        codes = joined["insertion_code"].astype(np.uint8)
        return {
            "chain": _joined(chains).astype(str),
            "residue_number": joined["residue_number"].astype(np.int64),
            "insertion_code": np.where(codes == ord(" "), 0, codes).astype(np.uint32).view("U1"),
            "residue_letter": _LETTERS[joined["residue_type"].astype(np.int64)],
            "plddt": joined["plddt"].astype(np.float32),
        }


def _joined(arrays: list[Array]) -> Array:
    return np.concatenate(arrays) if arrays else np.zeros(0)
