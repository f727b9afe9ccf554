"""Read BinaryCIF into a gemmi document, which is then read like mmCIF.

Format: https://github.com/molstar/BinaryCIF (Sehnal et al. 2020, doi:10.1371/journal.pcbi.1008247). It is
MessagePack; each column has bytes and a list of encodings, which are decoded from the last to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import gemmi
import msgpack
import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.files import UnreadableError

Array = NDArray[Any]

_DTYPES = {1: "i1", 2: "<i2", 3: "<i4", 4: "u1", 5: "<u2", 6: "<u4", 32: "<f4", 33: "<f8"}
_MAX_VALUES = 1 << 27  # of a column; a few bytes may expand to any number of values
_NOT_GIVEN, _UNKNOWN = 1, 2  # in a mask; 0 is a value
_DAMAGED = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError),
    *(msgpack.exceptions.UnpackException, RecursionError),
)


def read_bcif(content: bytes) -> gemmi.cif.Document:
    """Read all blocks and categories of a BinaryCIF file.

    Raises:
        UnreadableError: the file is damaged, or has an encoding that the format does not define.
    """
    document = gemmi.cif.Document()
    try:
        for number, data in enumerate(msgpack.unpackb(content)["dataBlocks"]):
            block = document.add_new_block(_text(data["header"]) or f"block{number}")
            for category in data["categories"]:
                _add(block, category)
    except _DAMAGED as error:
        raise UnreadableError(f"the BinaryCIF data are damaged ({type(error).__name__}: {error})") from error
    return document


def _add(block: gemmi.cif.Block, category: Mapping[str, Any]) -> None:
    columns, prefix = category["columns"], _text(category["name"]) + "."
    values = [_column(column) for column in columns]
    if not values or not values[0]:
        return
    if {len(column) for column in values} != {category["rowCount"]}:
        raise ValueError(f"columns of different length in {prefix[:-1]}")
    loop = block.init_loop(prefix, [_text(column["name"]) for column in columns])
    loop.set_all_values(values)


def _column(column: Mapping[str, Any]) -> list[str]:
    """Decode a column to CIF text, quoted where necessary."""
    data = decode_column(column["data"])
    if data.dtype.kind in "OU":
        kinds, which = np.unique(data.astype(str), return_inverse=True)
        values = np.array([gemmi.cif.quote(_text(kind)) for kind in kinds], dtype=object)[which]
    else:
        values = data.astype(str).astype(object)  # the shortest text that gives the number
    if column.get("mask"):
        mask = decode_column(column["mask"])
        values[mask == _NOT_GIVEN] = "."
        values[mask == _UNKNOWN] = "?"
    listed: list[str] = values.tolist()
    return listed


def _text(text: str) -> str:
    return text.encode("ascii", "replace").decode()  # gemmi refuses some of the rest


def decode_column(encoded: Mapping[str, Any]) -> Array:
    """Undo all encodings of ``{"data": ..., "encoding": [...]}``.

    Raises:
        ValueError: an encoding is unknown, or expands to more values than any structure has.
    """
    data = encoded["data"]
    for encoding in reversed(encoded["encoding"]):
        if encoding["kind"] not in _DECODERS:
            raise ValueError(f"unknown encoding '{encoding['kind']}'")
        data = _DECODERS[encoding["kind"]](data, encoding)
    return np.asarray(data)


def _byte_array(data: bytes, encoding: Mapping[str, Any]) -> Array:
    return np.frombuffer(data, dtype=_DTYPES[encoding["type"]])


def _fixed_point(data: Array, encoding: Mapping[str, Any]) -> Array:
    # float64 even if srcType is float32: the division then returns the decimal number that was encoded.
    decimal: Array = data / float(encoding["factor"])
    return decimal


def _interval_quantization(data: Array, encoding: Mapping[str, Any]) -> Array:
    low, high = float(encoding["min"]), float(encoding["max"])
    step = (high - low) / (encoding["numSteps"] - 1)
    values: Array = (low + data * step).astype(_DTYPES[encoding["srcType"]])
    return values


def _run_length(data: Array, encoding: Mapping[str, Any]) -> Array:
    values, counts = data[::2], data[1::2].astype(np.int64)
    if counts.sum() != encoding["srcSize"] or counts.sum() > _MAX_VALUES:
        raise ValueError(f"runs of {counts.sum()} values in all")
    unfolded: Array = np.repeat(values, counts).astype(_DTYPES[encoding["srcType"]])
    return unfolded


def _delta(data: Array, encoding: Mapping[str, Any]) -> Array:
    summed: Array = np.cumsum(data, dtype=np.int64) + encoding["origin"]
    return summed.astype(_DTYPES[encoding["srcType"]])


def _integer_packing(data: Array, encoding: Mapping[str, Any]) -> Array:
    """Sum packed values: a value at the limit of its type continues with the next value."""
    limits = np.iinfo(data.dtype)
    goes_on = data == limits.max
    if not encoding["isUnsigned"]:
        goes_on |= data == limits.min
    ends = np.flatnonzero(~goes_on)
    if len(ends) != encoding["srcSize"]:
        raise ValueError(f"{len(ends)} packed numbers, expected {encoding['srcSize']}")
    return np.diff(np.cumsum(data, dtype=np.int64)[ends], prepend=0).astype(np.int32)


def _string_array(data: bytes, encoding: Mapping[str, Any]) -> Array:
    text: str = encoding["stringData"]
    ends = decode_column({"data": encoding["offsets"], "encoding": encoding["offsetEncoding"]}).tolist()
    strings = [text[a:b] for a, b in pairwise(ends)]
    index = decode_column({"data": data, "encoding": encoding["dataEncoding"]})
    return np.array([*strings, ""], dtype=object)[index]  # -1: no string


_DECODERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Array]] = {
    "ByteArray": _byte_array,
    "FixedPoint": _fixed_point,
    "IntervalQuantization": _interval_quantization,
    "RunLength": _run_length,
    "Delta": _delta,
    "IntegerPacking": _integer_packing,
    "StringArray": _string_array,
}
