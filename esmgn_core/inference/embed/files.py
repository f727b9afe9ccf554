"""Embedding files in Parquet, safetensors, HDF5 and npz: written block by block, and read back.

Parquet has a row for each protein or residue. At the level ``both``, residues are in a second file,
``NAME.residues.parquet``. The other formats hold the same columns as arrays, proteins packed end to end:
the residues of protein ``b`` are rows ``ptr[b]:ptr[b + 1]``.

Signature and size of a file are checked before a library opens it. Whatever exception a damaged or foreign
file causes in a library becomes one error that names the file.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from esmgn_core.errors import RunError, did_you_mean
from esmgn_core.inference.embed.parts import PROTEIN, RESIDUE, Array, EmbeddingColumns
from esmgn_core.io.files import UnreadableError, open_regular
from esmgn_core.io.hdf5 import check_datasets
from esmgn_core.machine.files import written_atomically
from esmgn_core.machine.parse import parse_json
from esmgn_core.printable import counted
from esmgn_core.store.columns import write_columns

METADATA = "esmgn"
"""Name of the metadata in a file: JSON that describes the model and the job."""
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".safetensors": "safetensors",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npz": "npz",
}
FORMATS = ("parquet", "safetensors", "hdf5", "npz")
_MAX_SMALL, _MAX_RATIO = 1 << 26, 100
"""A member of an npz may inflate to this many bytes, and to this many times its packed size."""
_DAMAGED = (
    *(OSError, UnreadableError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(RuntimeError, MemoryError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error, SafetensorError),
)
"""Exceptions that damaged files cause in the libraries."""


def format_of(path: Path, named: str | None) -> str:
    """The format ``named``, else the format of the file's suffix.

    Raises:
        RunError: it is unknown.
    """
    known = f"available: {', '.join(FORMATS)}"
    if named is not None:
        if named not in FORMATS:
            raise RunError(f"unknown format '{named}' (--format)", *did_you_mean(named, FORMATS), known)
        return named
    if path.suffix.lower() not in _SUFFIXES:
        raise RunError(
            f"{path} has an unknown suffix (--out)",
            f"suffixes: {' '.join(_SUFFIXES)}",
            "or: --format FORMAT",
        )
    return _SUFFIXES[path.suffix.lower()]


def residue_file(path: Path) -> Path:
    """The second Parquet file, at the level ``both``."""
    return path.with_name(f"{path.stem}.residues{path.suffix}")


def write_embeddings(
    content: EmbeddingColumns, path: Path, file_format: str, metadata: Mapping[str, Any]
) -> None:
    """Write an embedding file atomically.

    Args:
        content: the columns.
        path: the file; an existing file is replaced.
        file_format: one of :data:`FORMATS`.
        metadata: plain values, stored as JSON under :data:`METADATA`.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    description = json.dumps(metadata)
    if file_format != "parquet":
        with written_atomically(path) as file:
            _ARRAY_WRITERS[file_format](content, file, description)
        return
    if content.vectors == [PROTEIN, RESIDUE]:
        with written_atomically(residue_file(path)) as file:
            _write_parquet(content, RESIDUE, file, description)
    with written_atomically(path) as file:
        _write_parquet(content, content.vectors[0], file, description)


def _write_parquet(content: EmbeddingColumns, level: str, path: Path, description: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = content.proteins
    if level == RESIDUE:
        names = np.repeat(columns["name"], columns["num_residues"])
        columns = {"name": names, **content.residues}
    titles = [*columns, "embedding"]
    types = [pa.from_numpy_dtype(a.dtype) if a.dtype.kind != "U" else pa.string() for a in columns.values()]
    types.append(pa.list_(pa.float32(), content.width))
    schema = pa.schema(zip(titles, types, strict=True), metadata={METADATA: description})
    with pq.ParquetWriter(path, schema) as writer:
        for first, block in content.blocks(level):
            rows = slice(first, first + len(block))
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), content.width)
            arrays = [pa.array(column[rows].tolist()) for column in columns.values()]
            writer.write_table(pa.Table.from_arrays([*arrays, vectors], names=titles).cast(schema))


def _small_columns(content: EmbeddingColumns) -> dict[str, Array]:
    """All columns except the embeddings; ``ptr`` if there are residues."""
    ptr = np.concatenate([[0], content.proteins["num_residues"].cumsum()]).astype(np.int64)
    return {**content.proteins, **content.residues, **({"ptr": ptr} if content.residues else {})}


def _write_npz(content: EmbeddingColumns, path: Path, description: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, column in {**_small_columns(content), METADATA: np.array(description)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column, allow_pickle=False)
        for name in content.vectors:
            shape = (content.num_rows[name], content.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _, block in content.blocks(name):
                    file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def _write_hdf5(content: EmbeddingColumns, path: Path, description: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs[METADATA] = description
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


def _write_safetensors(content: EmbeddingColumns, path: Path, description: str) -> None:
    # The library needs all tensors in memory at once, the writer of stores does not.
    columns: dict[str, Iterable[Array]] = {
        name: [_as_codes(column)] for name, column in _small_columns(content).items()
    }
    forms = {name: (np.dtype("<f4"), (content.num_rows[name], content.width)) for name in content.vectors}
    columns |= {name: (block for _, block in content.blocks(name)) for name in content.vectors}
    write_columns(path, columns, {METADATA: description}, forms)


def _as_codes(column: Array) -> Array:
    """Text as UTF-8, uint8 [rows, width] padded with zeros; other columns unchanged."""
    if column.dtype.kind != "U":
        return column
    encoded = np.char.encode(column, "utf-8")
    width = max(encoded.dtype.itemsize, 1)
    return encoded.astype(f"S{width}").view(np.uint8).reshape(len(column), width)


_ARRAY_WRITERS: dict[str, Callable[[EmbeddingColumns, Path, str], None]] = {
    "safetensors": _write_safetensors,
    "hdf5": _write_hdf5,
    "npz": _write_npz,
}


@dataclass(frozen=True, slots=True, eq=False)
class ProteinTable:
    """Embeddings of proteins, read from a file.

    Attributes:
        names: B names.
        vectors: float32 [B, D].
        metadata: as given to :func:`write_embeddings`.
        paths: B paths of the files that the proteins were read from.
    """

    names: list[str]
    vectors: Array
    metadata: dict[str, Any]
    paths: list[str]

    def __repr__(self) -> str:
        return f"ProteinTable({counted(len(self.names), 'protein')}, width {self.vectors.shape[1]})"


class _OpenFile(NamedTuple):
    """An open embedding file.

    Attributes:
        metadata: JSON text.
        has_proteins: False for a file of residues only.
        read: reads a column: a list of texts, or the embeddings for :data:`PROTEIN`.
    """

    metadata: Any
    has_proteins: bool
    read: Callable[[str], Any]


def read_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of an embedding file; ``None`` for damaged and other files."""
    try:
        with _READERS[_format_of_content(path)](path, ()) as file:
            return _metadata(file.metadata)
    except _DAMAGED:
        return None


def read_proteins(path: Path) -> ProteinTable:
    """Read names and embeddings of the proteins in an embedding file.

    Raises:
        RunError: it is damaged or not an embedding file, or has no embeddings of proteins.
    """
    try:
        with _READERS[_format_of_content(path)](path, ("name", "path", PROTEIN)) as file:
            metadata = _metadata(file.metadata)
            if not file.has_proteins:
                raise RunError(
                    f"{path} holds embeddings of residues only",
                    "create it with: esmgn embed --level protein (or both)",
                )
            table = ProteinTable(file.read("name"), file.read(PROTEIN), metadata, file.read("path"))
        _check(table)
    except _DAMAGED as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise RunError(f"cannot read {path}: {reason}", "make one: esmgn embed PATH... --out FILE") from error
    if not table.names:
        raise RunError(f"{path} holds no proteins", "make one: esmgn embed PATH... --out FILE")
    return table


def _check(table: ProteinTable) -> None:
    """Check lengths and types of the columns.

    Raises:
        ValueError: a length or type is wrong.
    """
    vectors = table.vectors
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(f"its embeddings are {vectors.dtype} {list(vectors.shape)}, expected float32 [B, D]")
    for column, texts in (("names", table.names), ("paths", table.paths)):
        if len(texts) != len(vectors):
            raise ValueError(f"it has {len(texts)} {column} for {len(vectors)} embeddings")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"its {column} are not all text")


def _format_of_content(path: Path) -> str:
    """The format of an existing file, by its first and last bytes.

    Raises:
        ValueError: it is empty, cut off, or has another format.
    """
    try:
        file = open_regular(path)
    except UnreadableError as error:
        raise ValueError(str(error)) from error
    with file:
        size = path.stat().st_size
        magic = file.read(8)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if not size:
        raise ValueError("the file is empty")
    if magic.startswith(b"PAR1"):
        if end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") > size - 12:
            raise ValueError("the Parquet file is cut off or damaged")
        return "parquet"
    if magic == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if magic.startswith(b"PK\x03\x04"):
        return "npz"
    # A safetensors file has no signature: it starts with the length of its header.
    if size < 10 or not 2 <= int.from_bytes(magic, "little") <= size - 8:
        raise ValueError("not a Parquet, HDF5, npz or safetensors file, or cut off")
    return "safetensors"


def _metadata(text: Any) -> dict[str, Any]:
    metadata = parse_json(text) if isinstance(text, str | bytes) else None
    if not isinstance(metadata, dict):
        raise ValueError("it was not made by esmgn embed")  # noqa: TRY004 - describes the file
    return metadata


@contextmanager
def _read_parquet(path: Path, _: Sequence[str]) -> Iterator[_OpenFile]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow

        def read(name: str) -> Any:
            stored = "embedding" if name == PROTEIN else name
            column = file.read(columns=[stored], use_threads=False)[stored]
            if name != PROTEIN:
                return column.to_pylist()
            return column.combine_chunks().flatten().to_numpy().reshape(len(column), column.type.list_size)

        yield _OpenFile((schema.metadata or {}).get(METADATA.encode()), "num_residues" in schema.names, read)


@contextmanager
def _read_npz(path: Path, _: Sequence[str]) -> Iterator[_OpenFile]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}

        def read(name: str) -> Any:
            column = _npy(archive, members[f"{name}.npy"])
            return column if name == PROTEIN else column.tolist()

        metadata = read(METADATA) if f"{METADATA}.npy" in members else None
        yield _OpenFile(metadata, f"{PROTEIN}.npy" in members, read)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """The array in a member. ``numpy.load`` would allocate any size that the header declares."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} has a compression that NumPy does not use")
    if member.file_size > max(_MAX_SMALL, _MAX_RATIO * member.compress_size):
        raise ValueError(f"{member.filename} inflates to {member.file_size:,} bytes: damaged, or a zip bomb")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(file)
        content = file.read(member.file_size)
    if (
        dtype.hasobject
        or any(size < 0 for size in shape)
        or dtype.itemsize * math.prod(shape) != len(content)
    ):
        raise ValueError(f"the header of {member.filename} does not match its content")
    if not content:  # empty texts
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def _read_hdf5(path: Path, columns: Sequence[str]) -> Iterator[_OpenFile]:
    import h5py

    check_datasets(path, columns)
    with h5py.File(path) as file:

        def read(name: str) -> Any:
            return file[name][()] if name == PROTEIN else file[name].asstr()[()].tolist()

        yield _OpenFile(file.attrs.get(METADATA), PROTEIN in file, read)


@contextmanager
def _read_safetensors(path: Path, _: Sequence[str]) -> Iterator[_OpenFile]:
    with safe_open(path, "np") as file:

        def read(name: str) -> Any:
            column = file.get_tensor(name)
            return column if name == PROTEIN else [bytes(row).rstrip(b"\0").decode() for row in column]

        yield _OpenFile((file.metadata() or {}).get(METADATA), PROTEIN in set(file.keys()), read)


_READERS: dict[str, Callable[[Path, Sequence[str]], AbstractContextManager[_OpenFile]]] = {
    "parquet": _read_parquet,
    "npz": _read_npz,
    "hdf5": _read_hdf5,
    "safetensors": _read_safetensors,
}
"""Open a file, from which only the given columns will be read."""
