"""Embedding files: parquet, safetensors, HDF5 and npz, written block by block.

Parquet has a row for each protein or residue; at the level ``both`` residues stand in a second file,
``NAME.residues.parquet``. The other formats hold the same columns as arrays, proteins packed end to
end: those of protein ``b`` are rows ``ptr[b]:ptr[b + 1]``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import RunError, did_you_mean
from esmgn_core.inference.embed.assemble import PROTEIN, RESIDUE, Assembled
from esmgn_core.machine.files import written_atomically
from esmgn_core.store.columns import write_columns

Array = NDArray[Any]
METADATA = "esmgn"
"""Name under which a file says of its model, as JSON."""
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".safetensors": "safetensors",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npz": "npz",
}
FORMATS = ("parquet", "safetensors", "hdf5", "npz")


def format_of(path: Path, named: str | None) -> str:
    """The format of a file: the one that is named, else that of its ending.

    Raises:
        RunError: neither is known.
    """
    known = f"available: {', '.join(FORMATS)}"
    if named is not None:
        if named not in FORMATS:
            raise RunError(f"unknown format '{named}' (--format)", *did_you_mean(named, FORMATS), known)
        return named
    if path.suffix.lower() not in _SUFFIXES:
        raise RunError(
            f"the ending of {path} names no format (--out)", f"endings: {' '.join(_SUFFIXES)}", "or: --format"
        )
    return _SUFFIXES[path.suffix.lower()]


def residue_file(path: Path) -> Path:
    """The second parquet file at the level ``both``."""
    return path.with_name(f"{path.stem}.residues{path.suffix}")


def write_embeddings(content: Assembled, path: Path, file_format: str, metadata: Mapping[str, Any]) -> None:
    """Write a whole file, or, where that fails, none.

    Args:
        content: the columns.
        path: the file; one that exists is replaced.
        file_format: one of :data:`FORMATS`.
        metadata: plain values, kept in the file as JSON under ``esmgn``.

    Raises:
        WriteError: the disk is full, or the file may not be written.
    """
    described = json.dumps(metadata)
    if file_format != "parquet":
        with written_atomically(path) as file:
            _ARRAY_WRITERS[file_format](content, file, described)
        return
    if content.vectors == [PROTEIN, RESIDUE]:
        with written_atomically(residue_file(path)) as file:
            _write_parquet(content, RESIDUE, file, described)
    with written_atomically(path) as file:
        _write_parquet(content, content.vectors[0], file, described)


def _write_parquet(content: Assembled, level: str, path: Path, described: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = content.proteins
    if level == RESIDUE:
        names = np.repeat(columns["name"], columns["num_residues"])
        columns = {"name": names, **content.residues}
    titles = [*columns, "embedding"]
    types = [pa.from_numpy_dtype(a.dtype) if a.dtype.kind != "U" else pa.string() for a in columns.values()]
    types.append(pa.list_(pa.float32(), content.width))
    schema = pa.schema(zip(titles, types, strict=True), metadata={METADATA: described})
    with pq.ParquetWriter(path, schema) as writer:
        for first, block in content.blocks(level):
            rows = slice(first, first + len(block))
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), content.width)
            arrays = [pa.array(column[rows].tolist()) for column in columns.values()]
            writer.write_table(pa.Table.from_arrays([*arrays, vectors], names=titles).cast(schema))


def _small_columns(content: Assembled) -> dict[str, Array]:
    """All columns but those of vectors, with the offsets of the residues."""
    ptr = np.concatenate([[0], content.proteins["num_residues"].cumsum()]).astype(np.int64)
    return {**content.proteins, **content.residues, **({"ptr": ptr} if content.residues else {})}


def _write_npz(content: Assembled, path: Path, described: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, column in {**_small_columns(content), METADATA: np.array(described)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column, allow_pickle=False)
        for name in content.vectors:
            shape = (content.num_rows[name], content.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _, block in content.blocks(name):
                    file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def _write_hdf5(content: Assembled, path: Path, described: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs[METADATA] = described
        for name, column in _small_columns(content).items():
            text = column.dtype.kind == "U"
            file.create_dataset(
                name,
                data=column.astype(object) if text else column,
                dtype=h5py.string_dtype() if text else None,
            )
        for name in content.vectors:
            shape = (content.num_rows[name], content.width)
            dataset = file.create_dataset(name, shape, dtype=np.float32)
            for first, block in content.blocks(name):
                dataset[first : first + len(block)] = block


def _write_safetensors(content: Assembled, path: Path, described: str) -> None:
    """Written as a store's columns: the library wants all tensors in memory at once."""
    columns: dict[str, Iterable[Array]] = {
        name: [_as_codes(column)] for name, column in _small_columns(content).items()
    }
    forms = {name: (np.dtype("<f4"), (content.num_rows[name], content.width)) for name in content.vectors}
    columns |= {name: (block for _, block in content.blocks(name)) for name in content.vectors}
    write_columns(path, columns, {METADATA: described}, forms)


def _as_codes(column: Array) -> Array:
    """Text as uint8 [rows, width], UTF-8 padded with zeros; other columns as they are."""
    if column.dtype.kind != "U":
        return column
    encoded = np.char.encode(column, "utf-8")
    width = max(encoded.dtype.itemsize, 1)
    return encoded.astype(f"S{width}").view(np.uint8).reshape(len(column), width)


_ARRAY_WRITERS: dict[str, Callable[[Assembled, Path, str], None]] = {
    "safetensors": _write_safetensors,
    "hdf5": _write_hdf5,
    "npz": _write_npz,
}
