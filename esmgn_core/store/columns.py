"""Write and memory-map files of columns in safetensors format."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
COLUMNS_SUFFIX = ".safetensors"
_LARGE = 1 << 25  # bytes; larger files are hashed in a second thread

Array = NDArray[Any]


def write_columns(
    path: Path,
    columns: Mapping[str, Iterable[Array]],
    metadata: Mapping[str, str],
    forms: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]] = MappingProxyType({}),
) -> str:
    """Write columns, each given as pieces to concatenate, and flush the file to the disk.

    The pieces of a column are iterated twice, for the shape and for the bytes; only once if ``forms`` has the
    type and shape of the column.

    Returns:
        SHA-256 of the file, 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be written; an incomplete file may remain.
    """
    forms = {name: forms.get(name) or _form(pieces) for name, pieces in columns.items()}
    # Wide types first, so that every column is aligned to the size of its type. Then by name, so that the
    # bytes do not depend on the order of ``columns``.
    order = sorted(forms, key=lambda name: (-forms[name][0].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    size = 0
    for name in order:
        dtype, shape = forms[name]
        start, size = size, size + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, size]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = sha256()
    with ThreadPoolExecutor(1) as hasher, path.open("wb") as file:

        def write(content: bytes | memoryview) -> None:
            if size < _LARGE:
                digest.update(content)
                file.write(content)
                return
            hashing = hasher.submit(digest.update, content)  # while this thread writes
            file.write(content)
            hashing.result()

        write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in columns[name]:
                if piece.size:
                    write(np.ascontiguousarray(piece, dtype=forms[name][0]).data.cast("B"))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _form(pieces: Iterable[Array]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    length, form = 0, None
    for piece in pieces:
        form = form or (piece.dtype.newbyteorder("<"), piece.shape[1:])
        length += len(piece)
    if form is None:
        raise ValueError("a column needs at least one piece, which may be empty, to define its type")
    return form[0], (length, *form[1])


class ColumnFile:
    """A file of columns opened for reading. Columns are views of the mapped file and are read when used.

    Attributes:
        columns: name -> array.
        metadata: name -> text.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is not a file of columns, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, "np") as file:  # validates the whole header
                self.metadata: dict[str, str] = dict(file.metadata() or {})
                slices = {name: file.get_slice(name) for name in file.offset_keys()}
                forms = {name: (_DTYPES[s.get_dtype()], tuple(s.get_shape())) for name, s in slices.items()}
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"not a file of columns, cut off or damaged: {error}") from error
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._size = len(self._map)
        start = self._size - sum(dtype.itemsize * math.prod(shape) for dtype, shape in forms.values())
        view: Any = self._map
        self.columns: dict[str, Array] = {}
        for name, (dtype, shape) in forms.items():
            self.columns[name] = np.ndarray(shape, dtype, view, start)
            start += self.columns[name].nbytes

    def check_size(self) -> None:
        """Check that the file was not cut off since it was opened; takes a few microseconds.

        The system kills a process that reads a mapped file beyond its end.

        Raises:
            ValueError: the file was cut off.
        """
        if (size := self._map.size()) < self._size:
            raise ValueError(f"cut off while in use: {size} bytes, expected {self._size}")
