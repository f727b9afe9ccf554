"""Find structure files, name their proteins, inflate them and recognise their format by content."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

from isal import igzip, igzip_lib

from esmgn_core.errors import StructureError

Format = Literal["pdb", "mmcif", "bcif"]

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".bcif")
"""Endings, in lower case, of the files taken from a directory; each also with ``.gz``."""

_NAMED_ONLY_SUFFIXES = (".mmtf", ".fcz")
_GZIP = b"\x1f\x8b"
_MMCIF = re.compile(rb"(?:\s++|#[^\n]*+\n)*+data_", re.IGNORECASE)
_PDB_START = (b"HEADER  ", b"ATOM  ", b"MODEL   ")
_BCIF = re.compile(rb"[\x80-\x8f\xde\xdf][\s\S]{0,4096}?dataBlocks")  # a MessagePack map
_MAX_INFLATED = 1 << 29
_MAX_RATIO = 1032  # of deflate: what is smaller by this factor needs no watching
_NOT_TEXT = re.escape(bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1a")))

_OTHER_CONTENT = {
    rb"\AFCMP": "Foldcomp format: unpack it with `foldcomp decompress`",
    rb"mmtfVersion": "MMTF format is not read: get the entry as mmCIF (.cif)",
    rb"\A(?:BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|PK\x03\x04)": "packed, but not with gzip: unpack it first",
    rb"(?s)\A.{257}ustar": "a tar archive: unpack it first",
    b"[" + _NOT_TEXT + b"]": "binary data, neither PDB nor mmCIF text",
    rb"(?i)\A\s*<(?:!doctype\s+html|html)": "an HTML page, as a failed download leaves: download it again",
    rb"\A\s*<": "XML, neither PDB nor mmCIF text: get the entry as mmCIF (.cif)",
}
"""What the beginning of a file says that it is, where it is no structure text, and what to do."""


_ASCII_ONLY = bytes(range(128)) + b"x" * 128


class UnreadableError(Exception):
    """Why a file gives no protein; whoever knows the file adds its name."""


def find_structures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The structure files among ``paths`` and, recursively, inside the directories among them.

    A file that is named itself is taken whatever its ending; in a directory the ending decides
    (``.pdb .ent .cif .mmcif .bcif``, each also with ``.gz``), and hidden files are passed over.

    Returns:
        Paths in the order of ``paths``, sorted within each directory, every file once.

    Raises:
        StructureError: a path does not exist, or a directory cannot be listed.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise StructureError(f"no such file or directory: {path}")
        for file in _walk(path) if path.is_dir() else [path]:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def _walk(directory: Path) -> list[Path]:
    return sorted(
        Path(folder, file)
        for folder, _, files in os.walk(directory, onerror=_refuse_directory)
        for file in files
        if not file.startswith(".") and file.lower().removesuffix(".gz").endswith(STRUCTURE_SUFFIXES)
    )


def _refuse_directory(error: OSError) -> None:
    raise StructureError(f"cannot list {error.filename}: {error.strerror}") from error


def structure_name(path: str | os.PathLike[str]) -> str:
    """File name without its structure endings.

    >>> structure_name(Path("models/AF-P00257-F1-model_v4.pdb.gz"))
    'AF-P00257-F1-model_v4'
    """
    name = os.fspath(path).rpartition("/")[2]  # not by Path: archives have millions of members
    inflated = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    stem, dot, ending = inflated.rpartition(".")
    known = stem and dot + ending.lower() in STRUCTURE_SUFFIXES + _NAMED_ONLY_SUFFIXES
    return stem if known else inflated


def unique_names(paths: Sequence[Path]) -> list[str]:
    """One name per path, all different if the paths are: the file name without endings where it will do.

    Files that would share it are named by their path below the folder common to all ``paths``, and if
    that is not enough (``1a8o.pdb`` beside ``1a8o.cif``) with the endings too.
    """
    if not paths:
        return []
    places = [path.absolute() for path in paths]
    root = Path(os.path.commonpath([place.parent for place in places]))
    inside = [place.relative_to(root) for place in places]
    candidates = [
        (structure_name(path), path.with_name(structure_name(path)).as_posix(), path.as_posix())
        for path in inside
    ]
    level = [0] * len(paths)
    while True:
        names = [candidate[k] for candidate, k in zip(candidates, level, strict=True)]
        shared = {name for name, count in Counter(names).items() if count > 1}
        raised = [min(k + (name in shared), 2) for name, k in zip(names, level, strict=True)]
        if raised == level:
            return names
        level = raised


def load_text(path: Path) -> tuple[Format, bytes]:
    """The inflated text of a structure file and its format, both judged by content, not by name.

    Raises:
        UnreadableError: the file cannot be opened or inflated, or is neither PDB nor mmCIF nor BinaryCIF.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error
    return text_of(content)


def text_of(content: bytes) -> tuple[Format, bytes]:
    """Like :func:`load_text` for the bytes of a file.

    Raises:
        UnreadableError: the content cannot be inflated, or is neither PDB nor mmCIF nor BinaryCIF.
    """
    if not content:
        raise UnreadableError("the file is empty")
    if content.startswith(_GZIP):
        content = inflate(content)
    if _BCIF.match(content):
        return "bcif", content
    content = content.removeprefix(b"\xef\xbb\xbf")
    is_pdb = content.startswith(_PDB_START)
    if not is_pdb:
        _refuse_other_content(content)
    if not content.isascii():  # names and comments; gemmi refuses some of them
        content = content.translate(_ASCII_ONLY)
    if not is_pdb and (_MMCIF.match(content) or b"\n_atom_site." in content):
        return "mmcif", content
    return "pdb", content


def is_gzip(content: bytes) -> bool:
    """True if the content begins like a gzip file."""
    return content.startswith(_GZIP)


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
        raise UnreadableError(f"inflates to more than {max_bytes >> 20} MiB: damaged, or a gzip bomb")
    return inflated


def _refuse_other_content(content: bytes) -> None:
    if content.isspace():
        raise UnreadableError("the file holds only white space")
    for pattern, reason in _OTHER_CONTENT.items():
        if re.search(pattern, content[:4096]):
            raise UnreadableError(reason)
