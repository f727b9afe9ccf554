"""Embedding files read back, whatever their format.

A file is compared with its signature and size first. Whatever a damaged or foreign file makes a library raise
is one error that names the file.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from esmgn_core.errors import RunError
from esmgn_core.inference.embed.assemble import PROTEIN
from esmgn_core.inference.embed.files import METADATA
from esmgn_core.io.files import UnreadableError, open_regular
from esmgn_core.io.hdf5 import check_datasets
from esmgn_core.machine.parse import parse_json
from esmgn_core.printable import counted

Array = NDArray[Any]
_MAX_SMALL, _MAX_RATIO = 1 << 26, 100
"""Bytes that any member of an npz may inflate to, and times its packed size."""
_DAMAGED = (
    *(OSError, UnreadableError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(RuntimeError, MemoryError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error, SafetensorError),
)


@dataclass(frozen=True, slots=True, eq=False)
class ProteinTable:
    """Embeddings of proteins, read from a file.

    Attributes:
        names: B names.
        vectors: float32 [B, D].
        metadata: of the model; see :func:`esmgn_core.inference.embed.files.write_embeddings`.
        paths: of the file that each protein is from.
    """

    names: list[str]
    vectors: Array
    metadata: dict[str, Any]
    paths: list[str]

    def __repr__(self) -> str:
        return f"ProteinTable({counted(len(self.names), 'protein')}, width {self.vectors.shape[1]})"


class _Opened(NamedTuple):
    """An open embedding file.

    Attributes:
        described: its metadata, as text.
        has_proteins: False for a file of residues alone.
        read: gives a column: a list of texts, or the embeddings of :data:`PROTEIN`.
    """

    described: Any
    has_proteins: bool
    read: Callable[[str], Any]


def read_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of an embedding file; ``None`` for a damaged file or one of another kind."""
    try:
        with _READERS[_format_of_content(path)](path, ()) as file:
            return _metadata(file.described)
    except _DAMAGED:
        return None


def read_proteins(path: Path) -> ProteinTable:
    """Names and embeddings of the proteins in a file of any format.

    Raises:
        RunError: it is not an embedding file, is damaged, or holds residues only or no protein.
    """
    try:
        with _READERS[_format_of_content(path)](path, ("name", "path", PROTEIN)) as file:
            metadata = _metadata(file.described)
            if not file.has_proteins:
                raise RunError(
                    f"{path} holds no embeddings of whole proteins",
                    "make it with: esmgn embed --level protein, or both",
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


@contextmanager
def _parquet(path: Path, _: Sequence[str]) -> Iterator[_Opened]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow

        def read(name: str) -> Any:
            stored = "embedding" if name == PROTEIN else name
            column = file.read(columns=[stored], use_threads=False)[stored]
            if name != PROTEIN:
                return column.to_pylist()
            return column.combine_chunks().flatten().to_numpy().reshape(len(column), column.type.list_size)

        yield _Opened((schema.metadata or {}).get(METADATA.encode()), "num_residues" in schema.names, read)


@contextmanager
def _npz(path: Path, _: Sequence[str]) -> Iterator[_Opened]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}

        def read(name: str) -> Any:
            column = _npy(archive, members[f"{name}.npy"])
            return column if name == PROTEIN else column.tolist()

        described = read(METADATA) if f"{METADATA}.npy" in members else None
        yield _Opened(described, f"{PROTEIN}.npy" in members, read)


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


@contextmanager
def _hdf5(path: Path, columns: Sequence[str]) -> Iterator[_Opened]:
    import h5py

    check_datasets(path, columns)
    with h5py.File(path) as file:

        def read(name: str) -> Any:
            return file[name][()] if name == PROTEIN else file[name].asstr()[()].tolist()

        yield _Opened(file.attrs.get(METADATA), PROTEIN in file, read)


@contextmanager
def _safetensors(path: Path, _: Sequence[str]) -> Iterator[_Opened]:
    with safe_open(path, "np") as file:

        def read(name: str) -> Any:
            column = file.get_tensor(name)
            return column if name == PROTEIN else [bytes(row).rstrip(b"\0").decode() for row in column]

        yield _Opened((file.metadata() or {}).get(METADATA), PROTEIN in set(file.keys()), read)


_READERS: dict[str, Callable[[Path, Sequence[str]], AbstractContextManager[_Opened]]] = {
    "parquet": _parquet,
    "npz": _npz,
    "hdf5": _hdf5,
    "safetensors": _safetensors,
}
"""Each opens a file, from which the given columns will be read."""
