"""Structure files: opened without waiting, and their content, unpacked."""

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
"""Endings of packed files that are read."""

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
_MAX_INFLATED = 1 << 29
_MAX_RATIO = 1032  # of deflate: what is smaller by this factor needs no watching
_MAX_XZ_MEMORY = 1 << 28  # bytes a stream may ask for; xz -9 needs 65 MiB


class UnreadableError(Exception):
    """Why a file gives no protein; whoever knows the file adds its name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was left out, and why."""

    path: Path
    reason: str


def as_utf8(name: str) -> str:
    r"""A file name as it can be stored: each byte that is not UTF-8 is written as its escape.

    >>> print(as_utf8("caf\udce9.pdb"))
    caf\xe9.pdb
    """
    return name if name.isascii() else name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def unpacked_name(name: str) -> str:
    """A file name without ``.gz``, ``.bz2`` or ``.xz``."""
    ending = name[name.rfind(".") :] if "." in name else ""
    return name[: -len(ending)] if ending.lower() in PACKINGS else name


def bytes_of(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        UnreadableError: it cannot be opened, or is a folder, a pipe, a socket or a device, which could block.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or error}") from error


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read; never waits, also if a pipe has taken the place of the file just now.

    Raises:
        UnreadableError: it is a folder, a pipe, a socket or a device, which could block.
        OSError: it cannot be opened.
    """
    _refuse_special(path.stat().st_mode)  # a socket cannot be opened, and opening some devices acts on them
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_special(os.fstat(number).st_mode)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _refuse_special(mode: int) -> None:
    if kind := special_kind(mode):
        raise UnreadableError(f"{kind}, not a file")


def special_kind(mode: int) -> str:
    """What a file of this mode is, if it is not a regular one: ``a named pipe``; empty if it is."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a special file")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def beginning(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, of what is packed in it if it is packed.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(size)
        if content.startswith(_BZIP2):  # which is packed in blocks of up to 900 kB
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
    """The bytes of a file without gzip, bzip2 or xz around them; at most 512 MiB.

    Raises:
        UnreadableError: the stream is damaged or cut off, holds nothing or too much.
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
    """The streams of a bzip2 or xz file, which follow one another."""
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
    """Inflated content of a gzip file.

    Args:
        content: the packed bytes.
        max_bytes: largest inflated size; 512 MiB by default, far more than any structure file.

    Raises:
        UnreadableError: the stream is cut off or damaged, holds nothing, or inflates to more.
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
    """The only member of a gzip file, into one buffer of the size its end declares; ``None`` otherwise."""
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
    with igzip.GzipFile(fileobj=BytesIO(content)) as stream:  # type: ignore[no-untyped-call]
        inflated: bytes = stream.read(max_bytes + 1)
    if len(inflated) > max_bytes:
        raise _bomb("gzip", max_bytes)
    return inflated
