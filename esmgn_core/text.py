"""Read text files of users: FASTA, run files, tables, lists, clusters, splits.

Editors and spreadsheets add a byte order mark, write UTF-16, end lines with CR or CR LF, or use the
single-byte encoding of Windows. All of these are read.
"""

from __future__ import annotations

import bz2
import codecs
import logging
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, since its mark begins with that of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),  # 31: with gzip's header and checksum
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
}
"""First bytes of a packed file -> what decompresses one stream of it."""
_MAX_INFLATED = 1 << 30
_MAX_LINE = 1 << 26
"""Largest number of characters of a line; devices and binary files have endless lines."""
_NOT_TEXT = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: save the table as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file: save it as text (CSV, UTF-8)",
    b"%PDF": "a PDF document: save the text of it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first",
}
_CONTROL = re.compile("[\0-\x08\x0e-\x19\x1b-\x1f\x7f]")


def _latin(byte: int) -> str:
    """Decode a byte as Windows-1252, or as Latin-1 if that has no such character."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


_SINGLE_BYTES = {0xDC00 + byte: _latin(byte) for byte in range(0x80, 0x100)}
"""Character that Python decodes an invalid byte to (``surrogateescape``) -> the intended character."""


def is_utf8(path: Path) -> bool:
    """True if a path is valid UTF-8, as text files and libraries require."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(path: Path) -> str:
    """Read a text file, with a newline after every line; see :func:`read_lines`."""
    return "".join(f"{line}\n" for line in read_lines(path))


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or compressed with gzip, bzip2 or xz, without line ends.

    UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one; lines end with LF, CR LF or CR.
    A byte that is not UTF-8 is read as Windows-1252 or Latin-1, with a warning for the first of a file.

    Raises:
        OSError: the file cannot be opened or read.
        ValueError: the content is not text, or a compressed stream is damaged. The message has no path.
    """
    with path.open("rb") as file:
        start = file.peek(8)[:8]
        new_stream = next((new for magic, new in _PACKED.items() if start.startswith(magic)), None)
        yield from _lines(file if new_stream is None else _unpacked(file, new_stream), path)


def _lines(file: BufferedReader, path: Path) -> Iterator[str]:
    start = file.peek(8)[:8]
    for magic, kind in _NOT_TEXT.items():
        if start.startswith(magic):
            raise ValueError(f"it is not text but {kind}")
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    warned = False
    with TextIOWrapper(file, encoding, errors, newline=None) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE), ""), start=1):
            if len(line) == _MAX_LINE and not line.endswith("\n"):
                raise ValueError(f"line {number} is not text (it does not end)")
            text = line.rstrip("\n")
            if not text.isascii() and (read := text.translate(_SINGLE_BYTES)) != text:
                if not warned:
                    shown = read.strip()[:80]
                    _logger.warning("%s, line %d is not UTF-8; read as Latin-1: %s", path, number, shown)
                text, warned = read, True
            if found := _CONTROL.search(text):
                problem = f"it has the character {ord(found[0]):#04x}"
                raise ValueError(f"line {number} is not text ({problem}): save the file as UTF-8")
            yield text.rstrip("\x1a")  # the end-of-file mark of DOS


def _unpacked(file: BufferedReader, new_stream: Callable[[], Any]) -> BufferedReader:
    """The content of all streams of a packed file.

    Not by ``BZ2File`` and ``LZMAFile``, which ignore a damaged stream after the first.
    """
    packed, parts, room = file.read(_MAX_INFLATED + 1), [], _MAX_INFLATED + 1
    while packed:
        stream = new_stream()
        try:
            parts.append(stream.decompress(packed, room))
        except (zlib.error, lzma.LZMAError, OSError) as error:
            raise ValueError(f"the packed stream is cut off or damaged: {error}") from error
        room -= len(parts[-1])
        if room <= 0:
            raise ValueError(f"inflates to more than {_MAX_INFLATED >> 20} MiB: unpack it first")
        if not stream.eof:
            raise ValueError("the packed stream is cut off or damaged: copy or download the file again")
        packed = stream.unused_data.lstrip(b"\0")  # zeros are padding
    return BufferedReader(BytesIO(b"".join(parts)))
