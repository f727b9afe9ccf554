"""Build one part of a plan, a small shard with its index, in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from esmgn_core.io.annotate import annotate
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.formats import Formats
from esmgn_core.store.columns import COLUMNS_SUFFIX
from esmgn_core.store.filters import Filters
from esmgn_core.store.index import INDEX_SUFFIX, SCHEMA, accepted, noted, refused, write_index
from esmgn_core.store.plan import Partition, Plan
from esmgn_core.store.reading import ItemReader
from esmgn_core.store.settings import Layout
from esmgn_core.store.shard_builder import ShardBuilder


@dataclass(frozen=True, slots=True)
class PartTask:
    """The arguments of :func:`build_part`; sent to other processes.

    Attributes:
        plan: file of the plan.
        part: the part to build.
        folder: folder of the result.
        layout: columns of each protein.
        filters: conditions on proteins.
        formats: the formats to read.
        known_reasons: number of an item within the part -> why it is refused without being read.
    """

    plan: Path
    part: Partition
    folder: Path
    layout: Layout
    filters: Filters
    formats: Formats
    known_reasons: Mapping[int, str]

    @property
    def stem(self) -> str:
        """Name of the part's files without suffix."""
        return f"{self.part.number:06d}"

    @property
    def file(self) -> Path:
        """File of the part's columns; it exists once the part is complete."""
        return self.folder / f"{self.stem}{COLUMNS_SUFFIX}"


def build_part(task: PartTask, progress: Callable[[int, int], None] = lambda *_: None) -> int:
    """Read the items of a part and write its files. The columns are written last and mark it complete.

    Args:
        task: the part and how to build it.
        progress: called before each item with its number within the part and the number of refusals so far.

    Returns:
        Number of refused items.

    Raises:
        OSError: the files cannot be written.
    """
    builder = ShardBuilder(task.layout)
    rows: list[dict[str, Any]] = []
    num_refused = 0
    with ItemReader(task.formats) as reader:
        for number, item in enumerate(Plan(task.plan).items(task.part)):
            progress(number, num_refused)
            digest = None
            try:
                if not (reason := task.known_reasons.get(number, "")):
                    reading, digest = reader.read(item)
                    row = accepted(item, reading, digest)
                    reason = task.filters.reason(row)
            except UnreadableError as error:
                reason = str(error)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                # A bug, but one file in a million must not stop the others.
                reason = f"the reader failed: {type(error).__name__}: {error}"
            if reason:
                rows.append(refused(item, reason, digest))
                num_refused += 1
                continue
            columns, notes = annotate(reading.residues, reading.structure, task.layout.annotations)
            builder.add(item.name, reading.residues, columns)
            rows.append(noted(row, notes))
    progress(task.part.size, num_refused)
    index = [pa.Table.from_pylist(rows, schema=SCHEMA)]
    commit(task.folder, task.stem, builder.write, index, compression="none")
    return num_refused


def commit(
    folder: Path,
    stem: str,
    write: Callable[[Path], str],
    index: Iterable[pa.Table],
    *,
    compression: str = "zstd",
) -> None:
    """Write columns and index to temporary files, then rename both, the columns last.

    A build that is killed in between leaves an index without columns, which counts as not written.

    Args:
        folder: folder of the files.
        stem: name of both files without suffix.
        write: writes the columns and returns their SHA-256.
        index: see :func:`esmgn_core.store.index.write_index`.
        compression: compression of the index.

    Raises:
        OSError: a file cannot be written.
    """
    columns, table = (folder / f"{stem}{suffix}" for suffix in (COLUMNS_SUFFIX, INDEX_SUFFIX))
    partial = {path: path.with_name(f"{path.name}.{os.getpid()}.partial") for path in (columns, table)}
    try:
        write_index(partial[table], index, write(partial[columns]), compression)
        partial[table].replace(table)
        partial[columns].replace(columns)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
