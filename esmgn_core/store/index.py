"""The index beside each shard: one row per file or archive member, read or refused, in Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esmgn_core.errors import DataError
from esmgn_core.io.files import as_utf8
from esmgn_core.io.protein import Reading
from esmgn_core.io.table import NO_CODE
from esmgn_core.machine.parse import parse_json
from esmgn_core.store.sources import Item

INDEX_SUFFIX = ".parquet"
FROM_COPY = "take it from a copy, or build the store anew"
_DIGEST = b"columns_sha256"
_to_json = json.JSONEncoder(separators=(",", ":")).encode

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("source", pa.string()),
        pa.field("member", pa.string()),
        pa.field("chain", pa.string()),
        pa.field("sha256", pa.binary(32)),
        pa.field("length", pa.int32()),
        pa.field("chains", pa.string()),
        pa.field("num_chains", pa.int32()),
        pa.field("mean_plddt", pa.float32()),
        pa.field("resolution", pa.float32()),
        pa.field("method", pa.string()),
        pa.field("organism", pa.string()),
        pa.field("sequence_hash", pa.int64()),
        pa.field("account", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""Columns of the index. ``reason`` is null for what is in the store, else why it is not. The rows without
a reason are the proteins of the shard, in its order. ``sha256`` is that of the file or member as it was,
packed or not. ``sequence_hash`` is the same for the same sequence. ``account`` is JSON: :func:`account`."""


def accepted(item: Item, reading: Reading, digest: bytes | None) -> dict[str, Any]:
    """The row of a protein."""
    residues, origin = reading.residues, reading.origin()
    plddt = residues.plddt
    return {
        "name": item.name,
        "source": as_utf8(item.source),
        "member": as_utf8(item.member),
        "chain": item.chain,
        "sha256": digest,
        "length": len(residues),
        "chains": " ".join(residues.chains),
        "num_chains": len(residues.chains),
        # As mean() has it, without the Python of that.
        "mean_plddt": None if plddt is None else float(plddt.sum() / np.float32(len(plddt))),
        "resolution": origin.resolution,
        "method": origin.method,
        "organism": origin.organism,
        "sequence_hash": sequence_hash(residues.residue_type),
        "account": _to_json(account(reading)),
        "reason": None,
    }


def noted(row: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """The row with ``notes`` added to its account, if there are any."""
    if not notes:
        return row
    known = json.loads(row["account"])
    return {**row, "account": _to_json({**known, "notes": [*known.get("notes", ()), *notes]})}


def refused(item: Item, reason: str, digest: bytes | None = None) -> dict[str, Any]:
    """The row of what could not be read or was filtered out."""
    return {
        **dict.fromkeys(SCHEMA.names),
        "name": item.name,
        "source": as_utf8(item.source),
        "member": as_utf8(item.member),
        "chain": item.chain,
        "sha256": digest,
        "reason": reason,
    }


def account(reading: Reading) -> dict[str, Any]:
    """What became of the content of a file: how the stored residues align with what the file declares.

    Keys, each left out where there is nothing to say: ``chains``
    (:class:`esmgn_core.io.seqres.ChainAccount`), ``format`` unless it is PDB, ``models`` if several,
    ``insertion_codes``, ``alternates`` and ``without_ca`` (residues), ``left_out`` (kind -> residues),
    ``modified`` (name -> letter), ``unknown`` (name -> residues), ``notes`` (sentences on what the reader
    dropped, divided or guessed besides, and on features that could not be computed).
    """
    report, residues = reading.report, reading.residues
    values: dict[str, Any] = {"chains": [chain.as_dict() for chain in reading.chains()]}
    if report.format != "pdb":
        values["format"] = report.format
    if report.num_models > 1:
        values["models"] = report.num_models
    counts: Mapping[str, Any] = {
        "insertion_codes": int(np.count_nonzero(residues.insertion_code != NO_CODE)),
        "alternates": report.alternates,
        "without_ca": report.without_ca,
        "left_out": dict(report.left_out_kinds),
        "modified": dict(report.modified),
        "unknown": dict(report.unknown),
        "notes": list(report.notes),
    }
    return {**values, **{name: value for name, value in counts.items() if value}}


def sequence_hash(residue_type: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """64 bits that are the same for the same sequence."""
    return int.from_bytes(blake2b(residue_type.tobytes(), digest_size=8).digest(), "big", signed=True)


def write_index(path: Path, tables: Iterable[pa.Table], digest: str, compression: str) -> None:
    """Write tables of rows, each a row group, and flush them to the disk.

    Args:
        path: the file.
        tables: the rows.
        digest: SHA-256 of the columns that belong to them.
        compression: ``zstd`` for what stays; ``none`` for what is soon read again.

    Raises:
        OSError: the file cannot be written.
    """
    schema = SCHEMA.with_metadata({_DIGEST: digest})
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression=compression) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(schema.metadata))
        file.flush()
        os.fsync(file.fileno())


def index_rows(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of an index.

    Args:
        path: the file.
        columns: which columns, in this order; all of :data:`SCHEMA` by default.

    Raises:
        DataError: the file is missing, cut off or damaged.
    """
    names = list(columns or SCHEMA.names)
    with _damage(path):
        table = pq.read_table(path, columns=names, use_threads=False).select(names)
        if [table.schema.field(name).type for name in names] != [SCHEMA.field(name).type for name in names]:
            raise ValueError("its columns have other types")
        return table


def columns_digest(path: Path) -> str:
    """SHA-256 that the columns beside this index had when they were written.

    Raises:
        DataError: the index is missing, cut off or damaged.
    """
    with _damage(path):
        return str(pq.read_schema(path).metadata[_DIGEST].decode())


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Report what fails inside as damage of an index."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}", FROM_COPY) from error


def row_account(text: str | None) -> dict[str, Any]:
    """The account in a row of the index, see :func:`account`.

    Raises:
        DataError: it is damaged.
    """
    try:
        values: dict[str, Any] = parse_json(text or "")
        if isinstance(values["chains"], list):
            return values
        raise ValueError("its chains are not a list")  # noqa: TRY301
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"an account in the index is damaged: {error}", FROM_COPY) from error
