"""Write proteins as a shard; columns are encoded some thousand residues at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS
from esmgn_core.io.annotate import ANNOTATIONS
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.store.columns import Array, write_columns
from esmgn_core.store.coordinates import encode
from esmgn_core.store.settings import Layout
from esmgn_core.store.shard import PLDDT_STEP

_CHUNK = 1 << 14  # residues encoded together


class ShardBuilder:
    """Collects proteins one by one and writes them as a shard.

    Args:
        layout: columns of the store.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._pieces: dict[str, list[Array]] = {}
        self._waiting: list[tuple[str, ResidueArrays, Mapping[str, Array]]] = []
        self._num_waiting = 0

    def add(self, name: str, residues: ResidueArrays, more: Mapping[str, Array] | None = None) -> None:
        """Add one protein with the optional columns of the layout, one value per residue."""
        self._waiting.append((name, residues, more or {}))
        self._num_waiting += len(residues)
        if self._num_waiting >= _CHUNK:
            self._flush()

    def write(self, path: Path) -> str:
        """Write all proteins to a file.

        Returns:
            SHA-256 of the file.

        Raises:
            OSError: the file cannot be written.
        """
        self._flush()
        return write_columns(path, self._pieces, metadata={"format": "esmgn-store-shard"})

    def _flush(self) -> None:
        for name, piece in self._encoded().items():
            self._pieces.setdefault(name, []).append(piece)
        self._waiting, self._num_waiting = [], 0

    def _encoded(self) -> dict[str, Array]:
        names = ["\0".join((name, *residues.chains)).encode() for name, residues, _ in self._waiting]
        proteins = [residues for _, residues, _ in self._waiting]
        lengths = np.array([len(residues) for residues in proteins], dtype=np.int64)
        atoms = self._layout.atom_slice
        encoded: dict[str, Array] = {
            "length": lengths.astype(np.int32),
            "num_bytes": np.array([len(name) for name in names], dtype=np.int32),
            "text": np.frombuffer(b"".join(names), dtype=np.uint8),
            "residue_type": _joined([residues.residue_type for residues in proteins], np.uint8),
            "plddt": self._plddt(proteins),
            **_runs(proteins, lengths),
        }
        for name in self._layout.annotations:
            encoded[name] = _joined([more[name] for *_, more in self._waiting], ANNOTATIONS[name])
        shape = len(BACKBONE_ATOMS[atoms]), 3
        position = _joined([residues.backbone[:, atoms] for residues in proteins], np.float32, shape)
        return {**encoded, **self._positions(position, lengths)}

    def _positions(self, position: NDArray[np.float32], lengths: NDArray[np.int64]) -> dict[str, Array]:
        if self._layout.coordinates == "float32":
            return {"position": position, "num_escapes": np.zeros(len(lengths), dtype=np.int32)}
        fixed = encode(position, lengths)
        first_atom = (np.cumsum(lengths) - lengths) * position.shape[1]
        owner = np.searchsorted(first_atom, fixed.escape_atom, side="right") - 1
        return {
            "position": fixed.offset,
            "origin": fixed.origin,
            "num_escapes": np.bincount(owner, minlength=len(lengths)).astype(np.int32),
            "escape_atom": (fixed.escape_atom - first_atom[owner]).astype(np.int32),
            "escape_position": fixed.escape_position,
        }

    def _plddt(self, proteins: Sequence[ResidueArrays]) -> Array:
        dtype = self._layout.plddt_dtype
        none = np.float32(np.nan)
        plddt = _joined(
            [np.full(len(one), none) if one.plddt is None else one.plddt for one in proteins], np.float32
        )
        stored = np.rint(plddt / PLDDT_STEP[dtype])
        stored[np.isnan(stored)] = np.iinfo(dtype).max
        return stored.astype(dtype)


def _joined(pieces: Sequence[Array], dtype: Any, shape: tuple[int, ...] = ()) -> Array:
    return np.concatenate([np.zeros((0, *shape), dtype=dtype), *pieces])


def _runs(proteins: Sequence[ResidueArrays], lengths: NDArray[np.int64]) -> dict[str, Array]:
    """Encode residue numbers as runs: start, first number, chain and insertion code of each run."""
    number = _joined([residues.number for residues in proteins], np.int32)
    chain = _joined([residues.chain for residues in proteins], np.int64)
    code = _joined([residues.insertion_code for residues in proteins], np.uint8)
    first = np.cumsum(lengths) - lengths
    is_start = np.ones(len(number), dtype=np.bool_)
    is_start[1:] = number[1:] != number[:-1] + np.int32(1)
    is_start[1:] |= (chain[1:] != chain[:-1]) | (code[1:] != code[:-1])
    is_start[first] = True
    start = np.flatnonzero(is_start)
    owner = np.searchsorted(first, start, side="right") - 1
    return {
        "num_runs": np.bincount(owner, minlength=len(lengths)).astype(np.int32),
        "run_start": (start - first[owner]).astype(np.int32),
        "run_number": number[start],
        "run_chain": chain[start].astype(np.uint16),
        "run_code": code[start],
    }
