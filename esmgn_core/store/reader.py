"""Read a store: proteins one at a time or in batches, and the index."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from esmgn_core.errors import DataError, did_you_mean
from esmgn_core.io.copies import unique_names
from esmgn_core.machine.files import file_sha256
from esmgn_core.printable import counted
from esmgn_core.related import Chains
from esmgn_core.store.build import BUILDING, PARTS, PLAN, SHARDS
from esmgn_core.store.columns import COLUMNS_SUFFIX, Array
from esmgn_core.store.index import FROM_COPY, INDEX_SUFFIX, SCHEMA, columns_digest, index_rows, row_account
from esmgn_core.store.pack import packed_parts, shard_files
from esmgn_core.store.plan import Plan
from esmgn_core.store.settings import Layout, Manifest, read_manifest
from esmgn_core.store.shard import DecodedResidues, Shard, StoredProtein

if TYPE_CHECKING:
    from esmgn_core.batch import Protein, ProteinBatch

_PER_RESIDUE = [item.name for item in fields(DecodedResidues) if item.name not in ("ptr", "annotations")]
_CHUNK = 1 << 22  # residues processed together
_GUESSED = 10_000  # names that are searched for a similar one
_NOTED = '"notes":['  # in the account, JSON without spaces
_ATTEMPTS = 3  # to open files, since a running build may replace them


class Store:
    """The proteins of a store, in a fixed order. Files are memory-mapped, so that processes share them.

    During a build the store has the proteins of the finished parts.

    Args:
        path: folder of the store.

    Raises:
        DataError: the folder is not a store, it is damaged, or this version cannot read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.layout, self._shards = _opened(self.path)
        self._first = np.concatenate([[0], np.cumsum([len(shard) for shard in self._shards])])
        self._starts: list[int] = self._first.tolist()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __repr__(self) -> str:
        residues = counted(int(self.lengths.sum()), "residue")
        return f"Store({str(self.path)!r}, {counted(len(self), 'protein')}, {residues})"

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of residues of each protein, int64 [P]; reads no residues."""
        with _intact(*self._shards):
            lengths = [shard.lengths for shard in self._shards]
            return np.concatenate([np.zeros(0, np.int64), *lengths]).astype(np.int64)

    def _locate(self, index: int) -> tuple[Shard, int]:
        """Return the shard of a protein, and its index in the shard."""
        if not 0 <= index < self._starts[-1]:
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        return self._shards[number], index - self._starts[number]

    def record(self, index: int) -> StoredProtein:
        """Return protein ``index`` as stored, without copying: the fastest random access.

        Raises:
            IndexError: ``index`` is out of range.
        """
        shard, within = self._locate(index)
        return shard.record(within)

    def ca(self, index: int) -> NDArray[np.float32]:
        """Read the CA coordinates of protein ``index``, float32 [n, 3] in angstrom; does not import torch.

        Raises:
            IndexError: ``index`` is out of range.
        """
        shard, within = self._locate(index)
        with _intact(shard):
            return shard.ca(within)

    def __getitem__(self, index: int) -> Protein:
        from esmgn_core.store.tensors import protein_of  # imported late, as it imports torch

        shard, within = self._locate(index)
        one = np.array([within])
        with _intact(shard):
            rows = shard.rows(one, np.zeros(1, dtype=np.int64), shard.lengths[one].astype(np.int64))
            name, chains = shard.texts(within)
            return protein_of(rows, name, chains)

    def __iter__(self) -> Iterator[Protein]:
        """The proteins in order."""
        return (self[index] for index in range(len(self)))

    def batch(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        start: NDArray[np.int64] | None = None,
        length: NDArray[np.int64] | None = None,
    ) -> ProteinBatch:
        """Read proteins, or stretches of them, as one batch; vectorised over proteins.

        Args:
            indices: indices of B proteins.
            start: int64 [B], first residue of each stretch; 0 by default.
            length: int64 [B], number of residues of each stretch; to the end of the protein by default.
        """
        from esmgn_core.store.tensors import batch_of

        index = np.asarray(indices, dtype=np.int64)
        start = np.zeros(len(index), dtype=np.int64) if start is None else start
        length = self.lengths[index] - start if length is None else length
        number = np.searchsorted(self._first, index, side="right") - 1
        ptr = np.concatenate([[0], np.cumsum(length)])
        names = [""] * len(index)
        gathered: dict[str, Array] = {}
        for used in np.unique(number).tolist():
            shard, own = self._shards[used], np.flatnonzero(number == used)
            within = index[own] - self._first[used]
            with _intact(shard):
                rows, own_names = shard.rows(within, start[own], length[own]), shard.names(within)
            if len(own) == len(index):
                return batch_of(rows, own_names)
            target = np.concatenate([np.arange(ptr[k], ptr[k + 1]) for k in own])  # rows of the batch
            columns = {name: getattr(rows, name) for name in _PER_RESIDUE}
            for name, part in {**columns, **rows.annotations}.items():
                whole = gathered.setdefault(name, np.empty((ptr[-1], *part.shape[1:]), dtype=part.dtype))
                whole[target] = part
            for k, name in zip(own.tolist(), own_names, strict=True):
                names[k] = name
        annotations = {name: gathered.pop(name) for name in self.layout.annotations}
        rows = DecodedResidues(ptr=ptr, annotations=annotations, **gathered)
        return batch_of(rows, names)

    @cached_property
    def names(self) -> list[str]:
        """Names of all proteins, in order."""
        with _intact(*self._shards):
            return [name for shard in self._shards for name in shard.names()]

    def find(self, name: str) -> int:
        """Find the index of the protein with this name.

        Raises:
            DataError: the store has no protein with this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            hints = (
                *did_you_mean(name, self.names[:_GUESSED]),
                f"see: esmgn data list {self.path} --limit 0",
            )
            raise DataError(f"no protein '{name}' in {self.path}", *hints) from None

    def column(self, name: str, index: int) -> Array | None:
        """Return an optional column of one protein as stored, or ``None`` if the store lacks it.

        Args:
            name: ``secondary_structure`` or ``exposure``, see :mod:`esmgn_core.io.annotate`.
            index: index of the protein.

        Raises:
            IndexError: ``index`` is out of range.
        """
        shard, within = self._locate(index)
        with _intact(shard):
            start, end = shard.residue_ptr[within : within + 2].tolist()
            return shard.columns[name][start:end] if name in self.layout.annotations else None

    def annotation(self, name: str) -> Iterator[Array]:
        """Yield an optional column of all proteins as stored, in chunks; nothing if the store lacks it."""
        for shard in self._shards if name in self.layout.annotations else ():
            column = shard.columns[name]
            yield from (column[first : first + _CHUNK] for first in range(0, len(column), _CHUNK))

    def residue_types(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the residue types of each protein, uint8 [n], in order."""
        for shard in self._shards:
            with _intact(shard):
                ptr = shard.residue_ptr
            yield from (shard.columns["residue_type"][a:b] for a, b in pairwise(ptr.tolist()))

    def chains(self) -> Chains:
        """Read the residue types of all chains."""
        types, starts, owners, residues = [np.zeros(0, np.uint8)], [], [], 0
        for shard, first in zip(self._shards, self._starts, strict=False):
            with _intact(shard):
                start, owner = shard.chain_starts()
            types.append(shard.columns["residue_type"])
            starts.append(start + residues)
            owners.append(owner + first)
            residues += len(types[-1])
        ptr = np.concatenate([*starts, np.array([residues])])
        return Chains(np.concatenate(types), ptr, np.concatenate([np.zeros(0, np.int64), *owners]))

    def index(self, columns: Sequence[str] | None = None, *, refused: bool = False) -> pa.Table:
        """Read rows of the index, see :data:`esmgn_core.store.index.SCHEMA`.

        Args:
            columns: columns to read; all by default.
            refused: True for the rows of refused items, False for one row per protein, in order.
        """
        wanted = list(columns or SCHEMA.names)
        tables = []
        for shard in self._shards:
            file = shard.path.with_suffix(INDEX_SUFFIX)
            table = index_rows(file, sorted({*wanted, "reason"}))
            is_accepted = table.column("reason").is_null()
            mask = pa.compute.invert(is_accepted) if refused else is_accepted
            if table.column("reason").null_count != len(shard):
                raise DataError(
                    f"{file} does not belong to {shard.path.name}: {_counts(table, shard)}", FROM_COPY
                )
            tables.append(table.filter(mask).select(wanted).replace_schema_metadata(None))
        if "chains" in wanted and not refused:
            tables = [_with_unique_chains(table) for table in tables]
        empty = pa.schema([SCHEMA.field(name) for name in wanted]).empty_table()
        return pa.concat_tables([empty, *tables])

    def notes(self, rows: NDArray[np.int64] | None = None) -> Iterator[tuple[str, list[str]]]:
        """Yield name and notes of each protein with notes.

        Args:
            rows: int64 indices of proteins; all by default.
        """
        table = self.index(["name", "account"])
        if rows is not None:
            table = table.take(pa.array(rows))
        table = table.filter(pa.compute.match_substring(table.column("account"), _NOTED))
        for row in table.to_pylist():
            yield row["name"], row_account(row["account"])["notes"]

    def problems(self) -> list[str]:
        """List damage of the files, see :func:`store_problems`."""
        return store_problems(self.path)

    @property
    def is_finished(self) -> bool:
        """True if no build of the store is unfinished."""
        return not (self.path / BUILDING / PLAN).exists()

    @property
    def num_bytes(self) -> tuple[int, int]:
        """Size of all columns, and of the index, in bytes."""
        paths = [shard.path for shard in self._shards]
        sizes = [(path.stat().st_size, path.with_suffix(INDEX_SUFFIX).stat().st_size) for path in paths]
        return sum(size for size, _ in sizes), sum(size for _, size in sizes)


def _with_unique_chains(table: pa.Table) -> pa.Table:
    """Make chain names of the index unique; shards of earlier versions may repeat them."""
    column = table.column("chains")
    several = pa.compute.match_substring(column, " ")
    if not pa.compute.any(several).as_py():
        return table
    names = [" ".join(unique_names(chains.split(" "))) for chains in column.to_pylist()]
    return table.set_column(table.schema.get_field_index("chains"), "chains", pa.array(names, pa.string()))


def store_problems(path: Path) -> list[str]:
    """List damage of the files of a store, one line each; empty if every byte is as written.

    Reads all files. A store of esmgn 0.1.0 has no record of its files. A lost shard is then found only by a
    gap in the numbers.

    Raises:
        DataError: the folder is not a store, or its ``store.json`` is damaged.
    """
    manifest, found = read_manifest(path), []
    if manifest.contents is not None:
        found += _differences(path, manifest, whole=True)
    for file in shard_files(path / SHARDS):
        index = file.with_suffix(INDEX_SUFFIX)
        if not index.is_file():
            found.append(f"{index} is missing")
            continue
        try:
            shard, table = Shard(file), index_rows(index, ["reason"])
            if table.column("reason").null_count != len(shard):
                found.append(f"{index} does not belong to {file.name}: {_counts(table, shard)}")
            if file_sha256(file) != columns_digest(index):
                found.append(f"{file}: the bytes are not those that were written")
        except (DataError, OSError, ValueError) as error:
            found.append(f"{file} or {index.name}: {getattr(error, 'message', error)}")
    return list(dict.fromkeys([*found, *_gaps(path)]))


def _counts(table: pa.Table, shard: Shard) -> str:
    return f"the index has {table.column('reason').null_count} proteins, the shard {len(shard)}"


def _gaps(path: Path) -> list[str]:
    """Find missing shards by gaps in the numbers of the others."""
    files = shard_files(path / SHARDS)
    if not (path / BUILDING / PLAN).exists():  # during a build an index is written before its columns
        files += (path / SHARDS).glob(f"*{INDEX_SUFFIX}")
    numbers = {int(file.stem) for file in files if file.stem.isdecimal()}
    present = {int(file.stem) for file in shard_files(path / SHARDS)}
    lost = sorted(set(range(max(numbers, default=-1) + 1)) - present)
    return [f"{path / SHARDS / f'{number:05d}{COLUMNS_SUFFIX}'} is missing" for number in lost]


def _differences(path: Path, manifest: Manifest, *, whole: bool = False) -> list[str]:
    if manifest.contents is None:
        return _gaps(path)
    is_building = (path / BUILDING / PLAN).exists()
    return list(manifest.contents.differences(path / SHARDS, is_building=is_building, whole=whole))


@contextmanager
def _intact(*shards: Shard) -> Iterator[None]:
    """Check that shards are not cut off before they are read; report errors inside the block as damage.

    Raises:
        DataError: a shard is cut off or damaged.
    """
    try:
        for shard in shards:
            shard.check_size()
        yield
    except (ValueError, IndexError, OverflowError) as error:
        names = ", ".join(str(shard.path) for shard in shards[:1])
        store = shards[0].path.parent.parent
        raise DataError(f"{names} is damaged: {error}", f"esmgn data verify {store}", FROM_COPY) from error


def _opened(path: Path) -> tuple[Layout, list[Shard]]:
    """Open the shards of a store, and check that no file is missing.

    Raises:
        DataError: the folder is not a store, or it is damaged.
    """
    problems: list[str] = []
    for _ in range(_ATTEMPTS):
        try:
            manifest = read_manifest(path)
            problems = _differences(path, manifest)
            shards = [] if problems else [Shard(file) for file in _files(path)]
        except (OSError, ValueError) as error:
            problems = [str(error)]
            continue
        expected, found = manifest.contents, sum(len(shard) for shard in shards)
        is_building = (path / BUILDING / PLAN).exists()
        if expected is not None and not problems and not is_building and found != expected.proteins:
            problems = [f"{found:,} proteins in its shards, expected {expected.proteins:,}"]
        if not problems:
            return manifest.layout, shards
    raise DataError(
        f"{path} is damaged: {problems[0]}", *problems[1:3], f"esmgn data verify {path}", FROM_COPY
    )


def _files(path: Path) -> list[Path]:
    """List the files of columns of a store, and of parts of a running build that are not packed yet."""
    # Parts are listed before shards: a part that is packed in between is in both, and then dropped here.
    parts = shard_files(path / BUILDING / PARTS)
    plan = path / BUILDING / PLAN
    shards = shard_files(path / SHARDS)
    if not parts or not plan.exists():
        return shards
    packed = packed_parts(path / SHARDS, Plan(plan).fingerprint)
    return [*shards, *(part for part in parts if int(part.stem) >= packed)]
