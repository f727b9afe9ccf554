"""Open structure files without blocking, and decompress their content."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

from isal import igzip, igzip_lib

PACKINGS = (".gz", ".bz2", ".xz")
"""Endings of compressed files that are read."""

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
_MAX_INFLATED = 1 << 29
_MAX_RATIO = 1032  # the highest compression ratio of deflate, so that small files cannot inflate too far
_MAX_XZ_MEMORY = 1 << 28  # bytes that a stream may request; xz -9 needs 65 MiB


class UnreadableError(Exception):
    """The reason why a file cannot be read as a protein, without its name; the caller adds the name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was not read, and the reason."""

    path: Path
    reason: str


def as_utf8(name: str) -> str:
    r"""Return a file name as valid UTF-8: each byte that is not UTF-8 becomes its escape.

    >>> print(as_utf8("caf\udce9.pdb"))
    caf\xe9.pdb
    """
    return name if name.isascii() else name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def unpacked_name(name: str) -> str:
    """Return a file name without ``.gz``, ``.bz2`` or ``.xz``."""
    ending = name[name.rfind(".") :] if "." in name else ""
    return name[: -len(ending)] if ending.lower() in PACKINGS else name


def bytes_of(path: Path) -> bytes:
    """Read the content of a regular file.

    Raises:
        UnreadableError: it cannot be opened, or is a folder, a pipe, a socket or a device, which could block.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or error}") from error


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading without blocking, even if a pipe has just replaced the file.

    Raises:
        UnreadableError: it is a folder, a pipe, a socket or a device, which could block.
        OSError: it cannot be opened.
    """
    # Checked before opening, since opening some devices has effects, and after, since the file may have
    # been replaced in between.
    _refuse_special(path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_special(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_special(mode: int) -> None:
    if kind := special_kind(mode):
        raise UnreadableError(f"{kind}, not a file")


def special_kind(mode: int) -> str:
    """Name the kind of a file that is not regular, such as ``a named pipe``; empty for a regular file."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a special file")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def beginning(path: Path, size: int = 4096) -> bytes:
    """Read the first bytes of a file, decompressed if it is compressed.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(size)
        if content.startswith(_BZIP2):  # nothing comes out before a whole block, of up to 900 kB
            content += file.read(1 << 20)
    try:
        if content.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(content, size)
        if content.startswith(_BZIP2):
            return bz2.BZ2Decompressor().decompress(content, size)
        if content.startswith(_XZ):
            return lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY).decompress(content, size)
    except (OSError, zlib.error, lzma.LZMAError):
        pass
    return content


def unpacked(content: bytes) -> bytes:
    """Decompress content packed with gzip, bzip2 or xz, up to 512 MiB; return other content unchanged.

    Raises:
        UnreadableError: a stream is damaged, cut off, empty or too large.
    """
    if content.startswith(_GZIP):
        return inflate(content)
    if content.startswith(_BZIP2):
        return _decompressed(content, "bzip2", bz2.BZ2Decompressor)
    if content.startswith(_XZ):
        return _decompressed(content, "xz", lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY))
    return content


def _decompressed(
    content: bytes, kind: str, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> bytes:
    """Decompress all streams of a bzip2 or xz file."""
    parts: list[bytes] = []
    room = _MAX_INFLATED + 1
    while content:
        stream = new()
        try:
            parts.append(stream.decompress(content, room))
        except (OSError, lzma.LZMAError, MemoryError) as error:
            reason = f"the {kind} stream is damaged ({error}): copy or download the file again"
            raise UnreadableError(reason) from error
        room -= len(parts[-1])
        if room <= 0:
            raise _bomb(kind, _MAX_INFLATED)
        if not stream.eof:
            raise UnreadableError(f"the {kind} stream is cut off: copy or download the file again")
        content = stream.unused_data.lstrip(b"\0")  # zeros are padding; anything else is a stream
    inflated = b"".join(parts)
    if not inflated:
        raise UnreadableError(f"the {kind} file holds zero bytes")
    return inflated


def _bomb(kind: str, max_bytes: int) -> UnreadableError:
    return UnreadableError(f"inflates to more than {max_bytes >> 20} MiB: damaged, or a {kind} bomb")


def inflate(content: bytes, max_bytes: int | None = None) -> bytes:
    """Decompress a gzip file.

    Args:
        content: the compressed bytes.
        max_bytes: largest decompressed size; 512 MiB by default, far more than any structure file.

    Raises:
        UnreadableError: the stream is cut off, damaged, empty or too large.
    """
    max_bytes = _MAX_INFLATED if max_bytes is None else max_bytes
    try:
        inflated = _inflate_small(content, max_bytes) if len(content) * _MAX_RATIO < _MAX_INFLATED else None
        if inflated is None:
            inflated = _inflate_watched(content, max_bytes)
    except EOFError as error:
        raise UnreadableError("the gzip stream is cut off: copy or download the file again") from error
    except (OSError, igzip_lib.IsalError) as error:  # type: ignore[misc]  # its stub says instance
        raise UnreadableError(f"the gzip stream is damaged ({error})") from error
    if not inflated:
        raise UnreadableError("the gzip file holds zero bytes")
    return inflated


def _inflate_small(content: bytes, max_bytes: int) -> bytes | None:
    """Decompress a gzip file of one member into one buffer of its declared size; ``None`` if not possible.

    This is faster than by :func:`_inflate_watched`. The last four bytes of a member are its size.
    """
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    declared = int.from_bytes(content[-4:], "little")
    if declared > max_bytes:
        return None
    try:
        inflated: bytes = stream.decompress(content, declared + 1)
    except igzip_lib.IsalError:  # type: ignore[misc]  # its stub says instance
        return None
    return inflated if stream.eof and not stream.unused_data else None


def _inflate_watched(content: bytes, max_bytes: int) -> bytes:
    """Decompress any gzip file, and stop once it exceeds the limit."""
    with igzip.GzipFile(fileobj=BytesIO(content)) as stream:  # type: ignore[no-untyped-call]  # not annotated
        inflated: bytes = stream.read(max_bytes + 1)
    if len(inflated) > max_bytes:
        raise _bomb("gzip", max_bytes)
    return inflated
