"""Read and write the index of each shard: one row per item, read or refused, in Parquet."""

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
FROM_COPY = "restore it from a copy, or build the store again"
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
"""Columns of the index.

- ``reason``: why an item was refused. Rows with null are the proteins of the shard, in its order.
- ``sha256``: hash of the file or member before decompression.
- ``sequence_hash``: equal for identical sequences.
- ``account``: JSON, see :func:`account`.
"""


def accepted(item: Item, reading: Reading, digest: bytes | None) -> dict[str, Any]:
    """Make the row of a protein."""
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
        # The same value as mean(), but faster.
        "mean_plddt": None if plddt is None else float(plddt.sum() / np.float32(len(plddt))),
        "resolution": origin.resolution,
        "method": origin.method,
        "organism": origin.organism,
        "sequence_hash": sequence_hash(residues.residue_type),
        "account": _to_json(account(reading)),
        "reason": None,
    }


def noted(row: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Add ``notes`` to the account of a row."""
    if not notes:
        return row
    known = json.loads(row["account"])
    return {**row, "account": _to_json({**known, "notes": [*known.get("notes", ()), *notes]})}


def refused(item: Item, reason: str, digest: bytes | None = None) -> dict[str, Any]:
    """Make the row of an item that could not be read or failed a filter."""
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
    """Summarise how a file was read, and compare its residues with the declared sequences.

    Keys; all but ``chains`` are left out if empty:

    - ``chains``: :class:`esmgn_core.io.seqres.ChainAccount` of each chain.
    - ``format``: unless it is PDB.
    - ``models``: if there are several.
    - ``insertion_codes``, ``alternates``, ``without_ca``: numbers of residues.
    - ``left_out``: kind -> number of residues.
    - ``modified``: name -> letter.
    - ``unknown``: name -> number of residues.
    - ``notes``: sentences on what else was dropped, divided or guessed, and on missing features.
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
    """Hash a sequence to a signed integer of 64 bits."""
    return int.from_bytes(blake2b(residue_type.tobytes(), digest_size=8).digest(), "big", signed=True)


def write_index(path: Path, tables: Iterable[pa.Table], digest: str, compression: str) -> None:
    """Write tables of rows, each a row group, and flush them to the disk.

    Args:
        path: the file.
        tables: the rows.
        digest: SHA-256 of the file of columns.
        compression: ``zstd`` for shards, ``none`` for parts, which are soon read again.

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
    """Read rows of an index.

    Args:
        path: the file.
        columns: columns to read, in this order; all of :data:`SCHEMA` by default.

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
    """Read the SHA-256 of the file of columns that was written with this index.

    Raises:
        DataError: the index is missing, cut off or damaged.
    """
    with _damage(path):
        return str(pq.read_schema(path).metadata[_DIGEST].decode())


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Report errors inside the block as damage of an index."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}", FROM_COPY) from error


def row_account(text: str | None) -> dict[str, Any]:
    """Parse the account in a row of the index, see :func:`account`.

    Raises:
        DataError: the account is damaged.
    """
    try:
        values: dict[str, Any] = parse_json(text or "")
        if isinstance(values["chains"], list):
            return values
        raise ValueError("its chains are not a list")  # noqa: TRY301
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"an account in the index is damaged: {error}", FROM_COPY) from error
