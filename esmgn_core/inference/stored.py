"""Embedding files read back, whatever their format.

A file is compared with its signature and size first. Whatever a damaged or foreign file makes a library raise
is one error that names the file.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import RunError
from esmgn_core.inference.assemble import PROTEIN
from esmgn_core.inference.files import METADATA
from esmgn_core.io.files import UnreadableError, open_regular
from esmgn_core.io.hdf5 import check_datasets
from esmgn_core.parse import parse_json
from esmgn_core.printable import counted

Array = NDArray[Any]
_MAX_SMALL, _MAX_RATIO = (
    1 << 26,
    100,
)  # bytes that any member of an npz may inflate to, and times its packed size
_DAMAGED = (
    *(OSError, UnreadableError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(RuntimeError, MemoryError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, slots=True, eq=False)
class ProteinTable:
    """Embeddings of proteins, read from a file.

    Attributes:
        names: B names.
        vectors: float32 [B, D].
        metadata: what the file says of its model; see :func:`esmgn_core.inference.files.write_embeddings`.
        paths: of the file that each protein is from.
    """

    names: list[str]
    vectors: Array
    metadata: dict[str, Any]
    paths: list[str]

    def __repr__(self) -> str:
        return f"ProteinTable({counted(len(self.names), 'protein')}, width {self.vectors.shape[1]})"


class _NoProteinsError(Exception):
    """An embedding file of residues alone."""


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What an embedding file says of its model; ``None`` for a damaged file or one of another kind."""
    try:
        return _READERS[_format_of_content(path)](path, vectors=False).metadata
    except _DAMAGED:
        return None


def read_proteins(path: Path) -> ProteinTable:
    """Names and embeddings of the proteins in a file of any format.

    Raises:
        RunError: it is no embedding file, is damaged, or holds residues only or no protein.
    """
    try:
        table = _READERS[_format_of_content(path)](path, vectors=True)
        _check(table)
    except _NoProteinsError:
        raise RunError(
            f"{path} holds no embeddings of whole proteins",
            "make it with: esmgn embed --level protein, or both",
        ) from None
    except _DAMAGED as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise RunError(f"cannot read {path}: {reason}", "make one: esmgn embed PATH... --out FILE") from error
    if not table.names:
        raise RunError(f"{path} holds no proteins", "make one: esmgn embed PATH... --out FILE")
    return table


def _check(table: ProteinTable) -> None:
    """Compare the columns of a file with each other.

    Raises:
        ValueError: they differ in length or type.
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
    """The format of an existing file, by its first bytes.

    Raises:
        ValueError: it is empty, cut off, or of another kind.
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
    if size < 10 or not 2 <= int.from_bytes(magic, "little") <= size - 8:
        raise ValueError("neither Parquet, HDF5, npz nor safetensors, or cut off")
    return "safetensors"


def _metadata(text: Any) -> dict[str, Any]:
    metadata = parse_json(text) if isinstance(text, str | bytes) else None
    if not isinstance(metadata, dict):
        raise ValueError("no file of esmgn embed: it does not describe a model")  # noqa: TRY004 - of the file
    return metadata


def _without_vectors(metadata: dict[str, Any]) -> ProteinTable:
    return ProteinTable([], np.zeros((0, 0), dtype=np.float32), metadata, [])


def _read_parquet(path: Path, *, vectors: bool) -> ProteinTable:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        metadata = _metadata((file.schema_arrow.metadata or {}).get(METADATA.encode()))
        if not vectors:
            return _without_vectors(metadata)
        if "num_residues" not in file.schema_arrow.names:
            raise _NoProteinsError
        table = file.read(columns=["name", "path", "embedding"], use_threads=False)
    width = table.schema.field("embedding").type.list_size
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    names = table["name"].to_pylist()
    return ProteinTable(names, flat.reshape(len(names), width), metadata, table["path"].to_pylist())


def _read_npz(path: Path, *, vectors: bool) -> ProteinTable:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}

        def column(name: str) -> Array:
            return _npy(archive, members[f"{name}.npy"])

        metadata = _metadata(str(column(METADATA)) if f"{METADATA}.npy" in members else None)
        if not vectors:
            return _without_vectors(metadata)
        if f"{PROTEIN}.npy" not in members:
            raise _NoProteinsError
        return ProteinTable(column("name").tolist(), column(PROTEIN), metadata, column("path").tolist())


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """The array in a member. ``numpy.load`` would allocate whatever size its header declares."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in another way than by numpy")
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
        raise ValueError(f"the header of {member.filename} does not fit its content")
    if not content:  # text of no characters
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_hdf5(path: Path, *, vectors: bool) -> ProteinTable:
    import h5py

    check_datasets(path, ("name", "path", PROTEIN) if vectors else ())
    with h5py.File(path) as file:
        metadata = _metadata(file.attrs.get(METADATA))
        if not vectors:
            return _without_vectors(metadata)
        if PROTEIN not in file:
            raise _NoProteinsError
        names, paths = (file[column].asstr()[()].tolist() for column in ("name", "path"))
        return ProteinTable(names, file[PROTEIN][()], metadata, paths)


def _read_safetensors(path: Path, *, vectors: bool) -> ProteinTable:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            metadata = _metadata((file.metadata() or {}).get(METADATA))
            if not vectors:
                return _without_vectors(metadata)
            if PROTEIN not in set(file.keys()):
                raise _NoProteinsError
            names, paths = (
                [bytes(row).rstrip(b"\0").decode() for row in file.get_tensor(column)]
                for column in ("name", "path")
            )
            return ProteinTable(names, file.get_tensor(PROTEIN), metadata, paths)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


_READERS: dict[str, Callable[..., ProteinTable]] = {
    "parquet": _read_parquet,
    "npz": _read_npz,
    "hdf5": _read_hdf5,
    "safetensors": _read_safetensors,
}
