"""From parts to the columns of an embedding file, in the order of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.inference.embed.parts import ResultFile

PROTEIN, RESIDUE = "protein", "residue"
_ROWS_AT_ONCE = 4096
_LETTERS = np.array(list(AMINO_ACIDS + "X"))

Array = NDArray[Any]


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

    def __init__(self, parts: Sequence[ResultFile], keys: Sequence[str], level: str) -> None:
        found = {
            record.key: (record, part, number, first)
            for part in parts
            for record, number, first in part.embedded()
        }
        self._places = [found[key] for key in keys if key in found]
        self.records = [record for record, *_ in self._places]
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
        first, waiting, num_rows = 0, [], 0
        for record, part, number, first_residue in self._places:
            start, rows = (number, 1) if name == PROTEIN else (first_residue, record.length)
            waiting.append(self._slice(part.path, name, start, rows))
            num_rows += rows
            if num_rows >= _ROWS_AT_ONCE:
                yield first, np.concatenate(waiting)
                first, waiting, num_rows = first + num_rows, [], 0
        if waiting:
            yield first, np.concatenate(waiting)

    def _slice(self, path: Path, name: str, start: int, rows: int) -> Array:
        # One file at a time: what was read of a mapped file counts as memory of the process.
        if self._open is None or self._open[0] != path:
            self._open = path, safe_open(path, "np")
        array: Array = self._open[1].get_slice(name)[start : start + rows]
        return array

    def _residue_columns(self) -> dict[str, Array]:
        names = ("residue_number", "insertion_code", "residue_type", "plddt", "chain_index")
        number, code, kind, plddt, chain = (
            np.concatenate([np.zeros(0, np.uint8), *(block for _, block in self.blocks(name))])
            for name in names
        )
        chains = [name for record in self.records for name in record.chains]
        counts = np.array([len(record.chains) for record in self.records], dtype=np.int64)
        first_chain = np.repeat(np.cumsum(counts) - counts, self.proteins["num_residues"])
        return {
            "chain": np.array(chains, dtype=str)[first_chain + chain],
            "residue_number": number.astype(np.int64),
            "insertion_code": np.where(code == ord(" "), 0, code).astype(np.uint32).view("U1"),
            "residue_letter": _LETTERS[kind],
            "plddt": plddt.astype(np.float32),
        }
