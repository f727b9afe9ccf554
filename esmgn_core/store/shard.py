"""Read shards: many proteins in one file of columns.

Columns per protein: ``length``, ``num_runs``, ``num_escapes``, ``num_bytes`` (of its text). Per residue:
``residue_type``, ``plddt``, ``position`` (offsets, or float32 coordinates) and, if the store has them,
``secondary_structure`` and ``exposure``. Per block: ``origin``. Per run of
consecutive residue numbers: ``run_start``, ``run_number``, ``run_chain``, ``run_code``. Per escaped atom:
``escape_atom``, ``escape_position``. ``text`` has the name and the chain identifiers, separated by NUL. All
positions are relative to their protein, so that shards are joined by concatenating columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, UNKNOWN
from esmgn_core.io.annotate import ANNOTATIONS
from esmgn_core.io.copies import unique_names
from esmgn_core.store.columns import Array, ColumnFile
from esmgn_core.store.coordinates import BLOCK, decode, num_blocks

_PER_PROTEIN = {"length": "i4", "num_runs": "i4", "num_escapes": "i4", "num_bytes": "i4"}
_PER_RESIDUE = {"residue_type": "u1", "plddt": "u1 u2", "position": "i2 f4"}
_PER_RUN = {"run_start": "i4", "run_number": "i4", "run_chain": "u2", "run_code": "u1"}
_ANNOTATIONS = {"secondary_structure": "u1", "exposure": "u2"}
_PER_ESCAPE = {"escape_atom": "i4", "escape_position": "f4"}
_TYPES = {**_PER_PROTEIN, **_PER_RESIDUE, **_PER_RUN, **_ANNOTATIONS, **_PER_ESCAPE}
_TYPES |= {"text": "u1", "origin": "i4"}
_ROWS: dict[str, tuple[tuple[int, ...], ...]] = {
    "origin": ((3,),),
    "escape_position": ((3,),),
    "position": ((1, 3), (4, 3)),
}
_REQUIRED = {*_PER_PROTEIN, *_PER_RESIDUE, *_PER_RUN, "text"}
PLDDT_STEP = {np.dtype("<u2"): 0.01, np.dtype("u1"): 0.5}
"""Type of stored pLDDT -> its step."""


@dataclass(frozen=True, slots=True)
class DecodedResidues:
    """Residues of B proteins of a shard, as concatenated NumPy arrays.

    Attributes:
        ptr: int64 [B + 1].
        residue_type: int64 [N].
        backbone: float32 [N, 4, 3] in angstrom, NaN where an atom is missing or not stored.
        atom_mask: bool [N, 4], True for present atoms.
        number: int64 [N], residue numbers.
        insertion_code: uint8 [N].
        chain: int64 [N].
        plddt: float32 [N], NaN for proteins without pLDDT.
        annotations: name -> optional column of the store, [N], as stored.
    """

    ptr: NDArray[np.int64]
    residue_type: NDArray[np.int64]
    backbone: NDArray[np.float32]
    atom_mask: NDArray[np.bool_]
    number: NDArray[np.int64]
    insertion_code: NDArray[np.uint8]
    chain: NDArray[np.int64]
    plddt: NDArray[np.float32]
    annotations: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class StoredProtein:
    """One protein as stored: views of the mapped file, not copied or decoded.

    Attributes:
        residue_type: uint8 [n].
        plddt: as stored, [n], in steps of 0.01 (uint16) or 0.5 (uint8); the largest value means no pLDDT.
        position: int16 offsets or float32 coordinates, [n, a, 3], see :mod:`esmgn_core.store.coordinates`.
        origin: int32 [K, 3]; ``None`` with float32 coordinates.
    """

    residue_type: NDArray[np.uint8]
    plddt: Array
    position: Array
    origin: NDArray[np.int32] | None


class Shard:
    """A shard opened for reading.

    Raises:
        ValueError: the file is not a shard, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = ColumnFile(path)
            self.columns = self._file.columns
            self.metadata = self._file.metadata
            self._check_forms()
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}") from error

    def _check_forms(self) -> None:
        """Check that the columns have the types and shapes of a shard; values are not read."""
        columns = self.columns
        missing = _REQUIRED - columns.keys()
        if not missing and columns["position"].dtype == np.int16:
            missing = {"origin", *_PER_ESCAPE} - columns.keys()
        if missing:
            raise ValueError(f"not a shard of a store: no column {', '.join(sorted(missing))}")
        for name, column in columns.items():
            rows = _ROWS.get(name, ((),))
            if name in _TYPES and column.dtype.str[1:] not in _TYPES[name].split():
                raise ValueError(f"column '{name}' has another type than in a shard")
            if name in _TYPES and (column.ndim < 1 or column.shape[1:] not in rows):
                raise ValueError(f"column '{name}' has another shape than in a shard")
        for group in (_PER_PROTEIN, {**_PER_RESIDUE, **_ANNOTATIONS}, _PER_RUN, _PER_ESCAPE):
            if len({len(columns[name]) for name in group if name in columns}) > 1:
                raise ValueError(f"columns {', '.join(group)} differ in length")

    def check_size(self) -> None:
        """Check that the file was not cut off since it was opened.

        Raises:
            ValueError: the file was cut off.
        """
        self._file.check_size()

    def __len__(self) -> int:
        return len(self.columns["length"])

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Residues of each protein, int32 [P]."""
        return cast("NDArray[np.int32]", self.columns["length"])

    @cached_property
    def residue_ptr(self) -> NDArray[np.int64]:
        """First residue of each protein, int64 [P + 1]."""
        return self._pointers(self.columns["length"], "residue_type")

    @cached_property
    def _block_ptr(self) -> NDArray[np.int64]:
        return self._pointers(num_blocks(self.columns["length"]), "origin")

    @cached_property
    def _run_ptr(self) -> NDArray[np.int64]:
        return self._pointers(self.columns["num_runs"], "run_start")

    @cached_property
    def _escape_ptr(self) -> NDArray[np.int64]:
        return self._pointers(self.columns["num_escapes"], "escape_atom")

    @cached_property
    def _text_ptr(self) -> NDArray[np.int64]:
        return self._pointers(self.columns["num_bytes"], "text")

    def _pointers(self, counts: Array, column: str) -> NDArray[np.int64]:
        """First row of each protein in a column, and the number of rows.

        Raises:
            ValueError: the counts do not add up to the rows of the column.
        """
        total = len(self.columns.get(column, ()))
        if len(counts) and (counts.min() < 0 or int(counts.sum(dtype=np.int64)) != total):
            raise ValueError(f"{self.path}: the counts of column '{column}' do not add up")
        return _ptr(counts)

    def chain_starts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First residue of each chain within the shard, and its protein, int64 [C] each."""
        owner = np.repeat(np.arange(len(self)), self.columns["num_runs"])
        chain = self.columns["run_chain"]
        first = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(chain.astype(np.int64), prepend=-1))
        owner = owner[first]
        return self.residue_ptr[owner] + self.columns["run_start"][first], owner

    def record(self, index: int) -> StoredProtein:
        """Return protein ``index`` as stored."""
        first, end = int(self.residue_ptr[index]), int(self.residue_ptr[index + 1])
        columns, origin = self.columns, self.columns.get("origin")
        if origin is not None:
            origin = origin[int(self._block_ptr[index]) : int(self._block_ptr[index + 1])]
        return StoredProtein(
            columns["residue_type"][first:end],
            columns["plddt"][first:end],
            columns["position"][first:end],
            origin,
        )

    def ca(self, index: int) -> NDArray[np.float32]:
        """Decode the CA coordinates of protein ``index``, float32 [n, 3] in angstrom."""
        record = self.record(index)
        column = CA if record.position.shape[1] > 1 else 0
        stored = record.position[:, column]
        if record.origin is None:
            return stored.copy()
        thousandths = np.repeat(record.origin, BLOCK, axis=0)[: len(stored)] + stored
        position: NDArray[np.float32] = thousandths.astype(np.float32)
        position /= np.float32(1000)
        if self.columns["num_escapes"][index]:
            own = slice(int(self._escape_ptr[index]), int(self._escape_ptr[index + 1]))
            atom, kind = np.divmod(self.columns["escape_atom"][own], record.position.shape[1])
            is_ca = kind == column
            position[atom[is_ca]] = self.columns["escape_position"][own][is_ca]
        return position

    def texts(self, index: int) -> tuple[str, tuple[str, ...]]:
        """Read name and chain identifiers of protein ``index``."""
        start, end = self._text_ptr[index : index + 2].tolist()
        name, *chains = self.columns["text"][start:end].tobytes().decode().split("\0")
        return name, unique_names(chains)  # stores of earlier versions may have a chain name twice

    def names(self, index: NDArray[np.int64] | None = None) -> list[str]:
        """Read the names of the proteins ``index``, int64 [B]; of all by default."""
        index = np.arange(len(self)) if index is None else index
        text = memoryview(self.columns["text"])  # type: ignore[arg-type]  # arrays have the buffer protocol
        ends = zip(self._text_ptr[index].tolist(), self._text_ptr[index + 1].tolist(), strict=True)
        return [bytes(text[start:end]).partition(b"\0")[0].decode() for start, end in ends]

    def rows(
        self, index: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64]
    ) -> DecodedResidues:
        """Decode residues ``start`` to ``start + length`` of the proteins ``index``, int64 [B] each."""
        places = _slices(self.residue_ptr[index] + start, length)
        residue_type: NDArray[np.int64] = _taken(self.columns["residue_type"], places, np.int64)
        # An invalid type, from a damaged byte, would crash the embedding layer in the middle of a run.
        if residue_type.max(initial=0) > UNKNOWN:
            raise ValueError(f"a residue type of {residue_type.max()}, expected at most {UNKNOWN}")
        number, chain, code = self._numbers(index, start, length)
        backbone, atom_mask = self._backbone(places, index, start, length)
        return DecodedResidues(
            ptr=_ptr(length),
            residue_type=residue_type,
            backbone=backbone,
            atom_mask=atom_mask,
            number=number,
            insertion_code=code,
            chain=chain,
            plddt=self._plddt(places),
            annotations={
                name: _taken(self.columns[name], places) for name in ANNOTATIONS if name in self.columns
            },
        )

    def _plddt(self, places: list[slice]) -> NDArray[np.float32]:
        stored = self.columns["plddt"]
        plddt: NDArray[np.float32] = _taken(stored, places, np.float32)
        none = np.flatnonzero(plddt == np.iinfo(stored.dtype).max)
        if stored.dtype == np.uint8:
            plddt *= np.float32(PLDDT_STEP[stored.dtype])
        else:
            plddt /= np.float32(100)  # exact: a product with 0.01 is not always the nearest float32
        plddt[none] = np.nan
        return plddt

    def _backbone(
        self,
        places: list[slice],
        index: NDArray[np.int64],
        start: NDArray[np.int64],
        length: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        stored = _taken(self.columns["position"], places)
        if stored.dtype == np.float32:
            present = ~np.isnan(stored[..., 0])
        else:
            first = start // BLOCK
            used = -(-(start + length) // BLOCK) - first  # blocks that the stretch overlaps
            origin = _taken(self.columns["origin"], _slices(self._block_ptr[index] + first, used))
            stored, present = decode(stored, origin, _block_sizes(start, length, used))
            self._put_escapes(stored, index, start, length)
        if stored.shape[1] == len(BACKBONE_ATOMS):
            return stored, present
        backbone = np.full((len(stored), len(BACKBONE_ATOMS), 3), np.nan, dtype=np.float32)
        atom_mask = np.zeros(backbone.shape[:2], dtype=np.bool_)
        backbone[:, CA], atom_mask[:, CA] = stored[:, 0], present[:, 0]
        return backbone, atom_mask

    def _put_escapes(
        self,
        position: NDArray[np.float32],
        index: NDArray[np.int64],
        start: NDArray[np.int64],
        length: NDArray[np.int64],
    ) -> None:
        """Write the coordinates of escaped atoms into ``position``."""
        escaped = np.flatnonzero(self.columns["num_escapes"][index])
        if not len(escaped):
            return
        index, count = index[escaped], self.columns["num_escapes"][index[escaped]].astype(np.int64)
        places, owner = _slices(self._escape_ptr[index], count), np.repeat(escaped, count)
        num_atoms = position.shape[1]
        atom = _taken(self.columns["escape_atom"], places) - start[owner] * num_atoms
        inside = (atom >= 0) & (atom < length[owner] * num_atoms)
        place = (atom + _ptr(length)[owner] * num_atoms)[inside]
        position.reshape(-1, 3)[place] = _taken(self.columns["escape_position"], places)[inside]

    def _numbers(
        self, index: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Expand runs to residue number, chain and insertion code, [N] each."""
        count = self.columns["num_runs"][index].astype(np.int64)
        if (count == 1).all():  # one run per protein, as in predictions: a shorter way
            run = self._run_ptr[index]
            first_number = self.columns["run_number"][run] + start - _ptr(length)[:-1]
            number = np.repeat(first_number, length)
            number += np.arange(len(number))
            of_chain = self.columns["run_chain"][run]
            chain = np.repeat(of_chain.astype(np.int64), length) if of_chain.any() else np.zeros_like(number)
            return number, chain, np.repeat(self.columns["run_code"][run], length)
        # Each run is clipped to the stretch that is read, then expanded to its residues.
        run_ptr = _ptr(count)
        owner = np.repeat(np.arange(len(index)), count)
        run = np.arange(run_ptr[-1]) + (self._run_ptr[index] - run_ptr[:-1])[owner]
        begin = self.columns["run_start"][run].astype(np.int64)
        end = np.append(begin[1:], 0)
        end[run_ptr[1:] - 1] = self.columns["length"][index]
        first = np.clip(begin - start[owner], 0, length[owner])
        size = np.clip(end - start[owner], 0, length[owner]) - first
        taken = np.repeat(np.arange(len(run)), size)
        within = np.arange(len(taken)) - np.repeat(np.cumsum(size) - size, size)
        skipped = np.maximum(start[owner] - begin, 0)
        number = (self.columns["run_number"][run] + skipped)[taken] + within
        chain = self.columns["run_chain"][run][taken].astype(np.int64)
        return number, chain, self.columns["run_code"][run][taken]


def _block_sizes(
    start: NDArray[np.int64], length: NDArray[np.int64], used: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of residues in each of the ``used`` blocks: all, except at the ends of a stretch."""
    ends = np.cumsum(used)
    size = np.full(ends[-1] if len(ends) else 0, BLOCK)
    some = used > 0
    size[(ends - used)[some]] -= start[some] % BLOCK
    size[ends[some] - 1] -= -(start + length)[some] % BLOCK
    return size


def _slices(start: NDArray[np.int64], length: NDArray[np.int64]) -> list[slice]:
    return list(map(slice, start.tolist(), (start + length).tolist()))


def _taken(column: Array, places: list[slice], dtype: Any = None) -> Array:
    """Concatenate stretches of a column, as stored or as ``dtype``."""
    pieces = [column[:0], *map(column.__getitem__, places)]
    return np.concatenate(pieces, dtype=dtype or column.dtype, casting="unsafe")


def _ptr(counts: NDArray[Any]) -> NDArray[np.int64]:
    ptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=ptr[1:])
    return ptr
