"""Pack parts into large shards by concatenating their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from esmgn_core.store.columns import COLUMNS_SUFFIX, Array, write_columns
from esmgn_core.store.index import INDEX_SUFFIX, index_rows
from esmgn_core.store.parts import commit
from esmgn_core.store.shard import Shard

SHARD_RESIDUES = 1 << 27
"""Residues after which the next shard begins: 3.5 GB of backbones."""

_PARTS, _PLAN = "parts", "plan"
_MAX_OPEN = 128  # files
_ROW_GROUP = 1 << 14  # rows


def pack(parts: Sequence[Path], folder: Path, plan: str) -> None:
    """Join parts, given by their files of columns in order, into shards in ``folder``; remove the parts.

    Can be interrupted at any point: each shard records the number of parts that are packed, see
    :func:`packed_parts`. Parts are removed after their shard is complete.

    Raises:
        OSError: a shard cannot be written.
    """
    number, first = _next_number(folder), packed_parts(folder, plan)
    for group in _groups(parts):
        metadata = {_PLAN: plan, _PARTS: str(first + len(group))}
        commit(folder, f"{number:05d}", _writer(group, metadata), _tables(group))
        number, first = number + 1, first + len(group)
        for part in group:
            part.unlink()
            part.with_suffix(INDEX_SUFFIX).unlink()


def _next_number(folder: Path) -> int:
    """Return the number after the highest in use, even if a shard below it is missing."""
    return max((int(path.stem) for path in shard_files(folder)), default=-1) + 1


def packed_parts(folder: Path, plan: str) -> int:
    """Count the first parts of a plan that are in shards already."""
    packed = [Shard(path).metadata for path in shard_files(folder)]
    return max((int(metadata[_PARTS]) for metadata in packed if metadata.get(_PLAN) == plan), default=0)


def shard_files(folder: Path) -> list[Path]:
    """List the files of columns of complete shards, in order."""
    return sorted(file for file in folder.glob(f"*{COLUMNS_SUFFIX}") if file.stem.isdecimal())


def _groups(parts: Sequence[Path]) -> Iterator[list[Path]]:
    """Group consecutive parts, one group per shard."""
    group: list[Path] = []
    residues = 0
    for part in parts:
        group.append(part)
        residues += int(Shard(part).lengths.sum())
        if residues >= SHARD_RESIDUES:
            yield group
            group, residues = [], 0
    if group:
        yield group


def _writer(paths: Sequence[Path], metadata: dict[str, str]) -> Callable[[Path], str]:
    opened = lru_cache(_MAX_OPEN)(Shard)
    columns = {name: _Column(paths, name, opened) for name in opened(paths[0]).columns}
    return lambda path: write_columns(path, columns, metadata)


def _tables(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """Yield the rows of the indices, joined into row groups."""
    waiting: list[pa.Table] = []
    for path in paths:
        waiting.append(index_rows(path.with_suffix(INDEX_SUFFIX)))
        if sum(map(len, waiting)) >= _ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


class _Column:
    """One column of several files; can be iterated several times."""

    def __init__(self, paths: Sequence[Path], name: str, opened: Callable[[Path], Shard]) -> None:
        self._paths, self._name, self._opened = paths, name, opened

    def __iter__(self) -> Iterator[Array]:
        return (self._opened(path).columns[self._name] for path in self._paths)
