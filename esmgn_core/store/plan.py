"""The plan of a build: its items in order, written once, so that a resumed build makes the same store."""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from esmgn_core.errors import DataError
from esmgn_core.io.files import as_utf8
from esmgn_core.io.names import structure_name
from esmgn_core.machine.parse import parse_json
from esmgn_core.store.filters import Filters
from esmgn_core.store.sources import Item

_BATCH = 4096
_MAX_PART = 4096
MIN_PART = 32
"""Smallest size of a part, if there are several."""

_PARTS = 64  # of a small build: enough for all workers, and little is repeated after an interruption

_PATHS = ("source", "member")  # stored as bytes, since paths may not be UTF-8
_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string()),
        *(pa.field(name, pa.binary()) for name in _PATHS),
        pa.field("name", pa.string()),
        *(pa.field(name, pa.int64()) for name in ("offset", "size")),
        *(pa.field(name, pa.string()) for name in ("chain", "reason")),
    ]
)


@dataclass(frozen=True, slots=True)
class Partition:
    """Consecutive items of a plan that one process reads into one file.

    Attributes:
        number: number of the part.
        first: its first item in the plan.
        size: number of items.
    """

    number: int
    first: int
    size: int


class Plan:
    """A written plan.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            metadata = self._file.schema.metadata
            self.num_items = int(metadata[b"num_items"])
            if -(-self.num_items // _BATCH) != self._file.num_record_batches:
                raise ValueError(f"it does not hold {self.num_items} items")
            self.fingerprint = metadata[b"fingerprint"].decode()
            self.sources: tuple[str, ...] = tuple(os.fsdecode(metadata[b"sources"]).split("\0"))
            self.passed_over: Counter[str] = Counter(parse_json(metadata.get(b"passed_over", b"{}")))
            self.filters = Filters(**parse_json(metadata[b"filters"]))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
            hint = "delete the file and build again; what is in the store stays"
            raise DataError(f"cannot read {self.path}: {error}", hint) from error

    @property
    def parts(self) -> list[Partition]:
        """The parts; their size depends only on the number of items, so that a resume gives the same."""
        size = min(max(-(-self.num_items // _PARTS), MIN_PART), _MAX_PART)
        starts = range(0, self.num_items, size)
        return [Partition(n, first, min(size, self.num_items - first)) for n, first in enumerate(starts)]

    def items(self, part: Partition) -> Iterator[Item]:
        """Read the items of one part."""
        first, end = part.first, part.first + part.size
        for number in range(first // _BATCH, -(-end // _BATCH)):
            offset = number * _BATCH
            with self._errors():
                batch = self._file.get_batch(number)
                batch.validate(full=True)  # damaged offsets would point outside the file
                rows = batch.slice(max(first - offset, 0), min(end - offset, _BATCH) - max(first - offset, 0))
                items = _items_of(rows)
            yield from items


def write_plan(
    path: Path,
    sources: Sequence[str],
    items: Iterable[Item],
    filters: Filters,
    *,
    taken: Iterable[str] = (),
    passed_over: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Write items to a file, each with a unique name.

    Args:
        path: the file to write.
        sources: the sources that the user gave.
        items: the items to read; iterated once.
        filters: conditions on proteins.
        taken: names that are in the store already.
        passed_over: number of other files by ending; read after ``items`` is exhausted.

    Returns:
        Number of items.

    Raises:
        OSError: the file cannot be written.
    """
    # Two passes: names and metadata are known only after all items were found, and there may be millions.
    body, unfinished = path.with_suffix(".body"), path.with_suffix(".partial")
    hashes = array("q", map(_hash, taken))
    in_store = frozenset(hashes)
    digest, num_items = sha256(), 0
    try:
        with pa.OSFile(str(body), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            iterator = iter(items)
            while chunk := list(islice(iterator, _BATCH)):
                hashes.extend(_hash(item.name) for item in chunk)
                columns = {name: [getattr(item, name) for item in chunk] for name in _SCHEMA.names}
                digest.update(repr(columns).encode())
                columns |= {name: [os.fsencode(path) for path in columns[name]] for name in _PATHS}
                num_items += len(chunk)
                writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_SCHEMA))
        metadata = {
            "sources": os.fsencode("\0".join(sources)),
            "filters": json.dumps(asdict(filters)).encode(),
            "passed_over": json.dumps(dict(passed_over)).encode(),
        }
        digest.update(repr(metadata).encode())
        metadata |= {"num_items": b"%d" % num_items, "fingerprint": digest.hexdigest().encode()}
        _write_named(body, unfinished, metadata, _shared(hashes), sources, in_store)
    finally:
        body.unlink(missing_ok=True)
    unfinished.replace(path)
    return num_items


def _write_named(
    body: Path,
    path: Path,
    metadata: Mapping[str, bytes],
    shared: frozenset[int],
    sources: Sequence[str],
    taken: frozenset[int],
) -> None:
    """Copy the items of ``body``, add metadata, and give longer names to items that share one."""
    with pa.memory_map(str(body)) as source, pa.OSFile(str(path), "wb") as file:
        reader = pa.ipc.open_file(source)
        batches = [partial(reader.get_batch, number) for number in range(reader.num_record_batches)]
        ambiguous = [
            item for read in batches if shared for item in _items_of(read()) if _hash(item.name) in shared
        ]
        names = _longer_names(ambiguous, sources, taken)
        with pa.ipc.new_file(file, _SCHEMA.with_metadata(metadata)) as writer:
            for read in batches:
                batch = read()
                if names:
                    renamed = [names.get(item.long_name, item.name) for item in _items_of(batch)]
                    column = _SCHEMA.get_field_index("name")
                    batch = batch.set_column(column, _SCHEMA.field(column), pa.array(renamed, pa.string()))
                writer.write_batch(batch)


def _items_of(rows: pa.RecordBatch) -> list[Item]:
    return [Item(**row | {name: os.fsdecode(row[name]) for name in _PATHS}) for row in rows.to_pylist()]


def _hash(text: str) -> int:
    digest = blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _shared(hashes: array[int]) -> frozenset[int]:
    """Find hashes that occur more than once, by sorting: a set of millions would take gigabytes."""
    ordered = np.sort(np.array(hashes, dtype=np.int64))
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _longer_names(items: Sequence[Item], sources: Sequence[str], taken: frozenset[int]) -> Mapping[str, str]:
    """Name items by their path below the folder common to all sources, with endings if necessary."""
    root = os.path.commonpath([str(Path(source).expanduser().absolute()) for source in sources])
    waiting = {}
    for item in items:
        path = PurePath(item.long_name)
        inside = path.relative_to(root) if path.is_relative_to(root) and str(path) != root else path
        bare = inside.with_name(structure_name(inside.name)).as_posix()
        waiting[item.long_name] = [as_utf8(name) for name in (bare, inside.as_posix(), item.long_name)]
    names: dict[str, str] = {}
    for level in range(3):
        counts = Counter(options[level] for options in waiting.values())
        for long_name, options in list(waiting.items()):
            name = options[level]
            if level == 2 or (counts[name] == 1 and _hash(name) not in taken):
                names[long_name] = name
                del waiting[long_name]
    return names
