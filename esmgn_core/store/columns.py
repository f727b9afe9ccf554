"""A file of flat columns, memory-mapped: the layout of safetensors, written piece by piece."""

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

from esmgn_core.parse import parse_json

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
_METADATA = "__metadata__"
_MAX_HEADER = 100_000_000
_LARGE = 1 << 25  # bytes, from which hashing them takes a thread of its own

Array = NDArray[Any]


def write_columns(
    path: Path,
    columns: Mapping[str, Iterable[Array]],
    metadata: Mapping[str, str],
    forms: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]] = MappingProxyType({}),
) -> str:
    """Write columns, each given as pieces to be laid end to end, and flush them to the disk.

    Pieces are iterated twice: for the shape, then for the bytes. Those of a column in ``forms``, which gives
    its type and shape, are iterated once.

    Returns:
        SHA-256 of what was written, 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be written; it is left as it is then.
    """
    forms = {name: forms.get(name) or _form(pieces) for name, pieces in columns.items()}
    # Wide types first: then every column starts at a multiple of its own size.
    order = sorted(forms, key=lambda name: -forms[name][0].itemsize)
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    size = 0
    for name in order:
        dtype, shape = forms[name]
        start, size = size, size + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, size]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = sha256()
    with ThreadPoolExecutor(1) as beside, path.open("wb") as file:

        def write(content: bytes | memoryview) -> None:
            if size < _LARGE:
                digest.update(content)
                file.write(content)
                return
            hashing = beside.submit(digest.update, content)  # two processors share the work
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
        raise ValueError("a column needs a piece, if an empty one, to know its type")
    return form[0], (length, *form[1])


class ColumnFile:
    """Such a file, opened for reading. Columns are views into the file; nothing is read before it is used.

    Attributes:
        columns: name -> array.
        metadata: texts that were written with them.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not such a file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(self._size - 8, _MAX_HEADER):
                raise ValueError("not a file of columns, or cut off")
            self.metadata, forms, end = _parsed(parse_json(file.read(length)))
            if self._size != 8 + length + end:
                raise ValueError(f"cut off or damaged: {self._size} bytes, expected {8 + length + end}")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view: Any = self._map
        self.columns: dict[str, Array] = {
            name: np.ndarray(shape, dtype, view, 8 + length + start)
            for name, (dtype, shape, start) in forms.items()
        }

    def check_size(self) -> None:
        """Make sure that the file was not cut off since it was opened; a few microseconds.

        The system ends a process that reads a mapped file beyond its end.

        Raises:
            ValueError: it was.
        """
        if (size := self._map.size()) < self._size:
            raise ValueError(f"cut off while in use: {size} bytes, expected {self._size}")


_Form = tuple[np.dtype[Any], tuple[int, ...], int]
"""Type, shape and first byte of a column."""


def _parsed(header: Any) -> tuple[dict[str, str], dict[str, _Form], int]:
    """Metadata, forms and last byte that a header declares.

    Raises:
        ValueError: it is damaged.
    """
    try:
        metadata = header.pop(_METADATA, {})
        forms: dict[str, _Form] = {}
        spans = []
        for name, item in header.items():
            dtype, shape, (start, end) = _DTYPES[item["dtype"]], item["shape"], item["data_offsets"]
            if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
                raise ValueError(f"the form of column '{name}' is damaged")
            if end - start != dtype.itemsize * math.prod(shape):
                raise ValueError(f"the size of column '{name}' is damaged")
            forms[name] = dtype, tuple(shape), start
            spans.append((start, end))
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("the metadata are damaged")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the header is damaged ({type(error).__name__}: {error})") from error
    ends = [0, *(end for _, end in sorted(spans))]
    if [start for start, _ in sorted(spans)] != ends[:-1]:
        raise ValueError("the columns do not lie end to end: the header is damaged")
    return metadata, forms, ends[-1]
