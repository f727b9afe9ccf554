"""List the members of a tar archive from its headers, without extracting any."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esmgn_core.errors import DataError

_BLOCK = 512
_FILE = b"0\0"
_LINKS = b"12"
_LONG_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"
_KINDS = {ord("3"): "a device", ord("4"): "a device", ord("6"): "a pipe"}


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar archive.

    Attributes:
        name: path inside the archive.
        offset: offset of the first byte in the archive.
        size: number of bytes.
        reason: why it is not read (a link, a path outside the archive, an archive that is cut off), or empty.
    """

    name: str
    offset: int
    size: int
    reason: str = ""


def members(path: Path) -> Iterator[Member]:
    """Yield the files of a tar archive in its order; folders are ignored.

    Only headers are read. A damaged header ends the list with a member that gives the reason.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                yield Member(path.name, 0, 0, "an empty file, not a tar archive")
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield from _walk(content, path.name)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror}") from error


def _walk(content: mmap.mmap, archive: str) -> Iterator[Member]:
    offset, long_name, pax = 0, "", dict[str, str]()
    while True:
        header = content[offset : offset + _BLOCK]
        if len(header) < _BLOCK:
            yield _end(archive, "the archive is cut off: copy or download it again", offset)
            return
        if not any(header):  # a block of zeros ends an archive
            return
        try:
            name, size, kind = _parse(header)
            size = int(pax.get("size", size))
        except ValueError:
            yield _end(archive, f"no tar header at byte {offset}: the archive is damaged", offset)
            return
        start, offset = offset + _BLOCK, offset + _BLOCK + -(-size // _BLOCK) * _BLOCK
        if kind in _LONG_NAME:
            long_name = content[start : start + size].rstrip(b"\0").decode(errors="backslashreplace")
        elif kind in _PAX:
            pax = _pax(content[start : start + size])
        elif kind not in _PAX_GLOBAL:
            name = pax.get("path") or long_name or name
            reason = _refusal_reason(name, kind, start + size > len(content))
            if kind in _FILE + b"7" or reason:
                yield Member(name, start, size, reason)
            long_name, pax = "", {}
            if start + size > len(content):
                return


def _parse(header: bytes) -> tuple[str, int, bytes]:
    """Return name, size and type of one header.

    Raises:
        ValueError: it is not a tar header.
    """
    # The checksum is the sum of all bytes, with its own field read as eight spaces.
    checksum = int(header[148:156].strip(b" \0") or b"0", 8)
    if sum(header) - sum(header[148:156]) + 8 * ord(" ") != checksum:
        raise ValueError
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    field = header[124:136]
    # Sizes from 8 GiB on are binary, marked by 0x80; smaller ones are octal digits.
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)
    full = prefix + b"/" + name if prefix else name
    return full.decode(errors="backslashreplace"), size, header[156:157]


def _pax(content: bytes) -> dict[str, str]:
    """Parse records of an extended header, each ``LENGTH KEY=VALUE`` and a newline."""
    values = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or not int(length):
            break
        record, content = content[len(length) + 1 : int(length) - 1], content[int(length) :]
        key, _, value = record.partition(b"=")
        values[key.decode(errors="backslashreplace")] = value.decode(errors="backslashreplace")
    return values


def _refusal_reason(name: str, kind: bytes, is_cut_off: bool) -> str:
    if is_cut_off:
        return "the archive is cut off inside this member: copy or download it again"
    if kind in _LINKS:
        return "a link, not a file"
    if kind[0] in _KINDS:
        return f"{_KINDS[kind[0]]}, not a file"
    if name.startswith("/") or ".." in name.split("/"):
        return "its name is a path outside the archive"
    return ""


def _end(archive: str, reason: str, offset: int) -> Member:
    return Member(f"{archive} (from byte {offset})", offset, 0, reason)
