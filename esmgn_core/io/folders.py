"""Search folders for structure files, and report every entry that is not one."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from esmgn_core.errors import StructureError
from esmgn_core.io import content as other
from esmgn_core.io.content import has_pdb_records
from esmgn_core.io.files import (
    PACKINGS,
    Refusal,
    beginning,
    special_kind,
    unpacked_name,
)
from esmgn_core.io.formats import FORMATS, Formats, format_of
from esmgn_core.io.names import is_structure
from esmgn_core.printable import printable

ATOM3D = "data.mdb"
"""The file that marks a folder as an ATOM3D data set."""

PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ARCHIVES = (".tar", ".zip", *PACKED_TAR, ".fcz")
"""Endings of archives, from which stores are built."""

_OTHER_PACKINGS = {
    ".zst": "zstd: unpack it first (unzstd)",
    ".z": "compress (.Z): unpack it first (uncompress)",
    ".lz4": "lz4: unpack it first (unlz4)",
    ".lzma": "lzma: unpack it first (unlzma)",
    ".7z": "7z: unpack it first",
    ".rar": "RAR: unpack it first",
}
_TRAJECTORY = "a trajectory: name it and its structure, esmgn data build FILE --topology STRUCTURE"
_BINARY = "is not read: save it as PDB or mmCIF"
_OTHER_FORMATS = {
    ".mmtf": other.MMTF,
    ".pqr": other.PQR,
    ".gro": other.GRO,
    ".g96": "GROMOS format is not read: convert it to PDB first (gmx editconf)",
    ".mol2": other.MOL2,
    ".sdf": other.SDF,
    ".mol": other.SDF,
    ".xyz": other.XYZ,
    ".mmjson": other.MMJSON,
    ".pdbml": other.PDBML,
    ".pse": f"a PyMOL session {_BINARY}",
    ".cxs": f"a ChimeraX session {_BINARY}",
    ".mae": f"Maestro format {_BINARY}",
    ".maegz": f"Maestro format {_BINARY}",
    **dict.fromkeys((".xtc", ".trr", ".dcd", ".binpos", ".lh5"), _TRAJECTORY),
}
"""Ending of a structure format that is not read -> why, and what to do."""

_SHOWN = 3  # reasons in an error
_BUILD = "build a store from it: esmgn data build"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder.

    Attributes:
        path: path of the entry.
        reason: why it is not read; empty if it is read.
    """

    path: Path
    reason: str = ""


@dataclass(slots=True)
class FoundFiles:
    """The result of a search.

    Attributes:
        files: structure files.
        refused: entries that look like structures and cannot be read, and broken entries, with the reasons.
        passed_over: number of other files, by ending.
    """

    files: list[Path] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def find_structures(paths: Iterable[str | os.PathLike[str]], formats: Formats = FORMATS) -> list[Path]:
    """List the structure files in ``paths``; folders are searched recursively.

    A file in ``paths`` is taken whatever its ending. A file in a folder is taken by its ending
    (``.pdb .pdb1 .ent .cif .mmcif .bcif .pdbqt``, each also with ``.gz``, ``.bz2`` or ``.xz``). Hidden files
    are ignored.

    Returns:
        Each file once, in the order of ``paths``, sorted within each folder.

    Raises:
        StructureError: a path does not exist, or a folder in ``paths`` cannot be listed.
    """
    named = [Path(path) for path in paths]
    found = search(named, formats).files
    return [path for path in found if path in named or is_structure(path.name, formats)]


def search(paths: Iterable[str | os.PathLike[str]], formats: Formats = FORMATS) -> FoundFiles:
    """Like :func:`find_structures`, but also report every other entry.

    Files without an ending are taken if their text begins like a structure.

    Raises:
        StructureError: a path does not exist, or a folder in ``paths`` cannot be listed.
    """
    found = FoundFiles()
    seen: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists() and not path.is_symlink():
            raise StructureError(f"no such file or directory: {path}")
        try:
            entries = list(walk(path, found.passed_over, formats)) if path.is_dir() else [_named_entry(path)]
        except OSError as error:
            raise StructureError(f"cannot list {error.filename}: {error.strerror}") from error
        for entry in entries:
            if (absolute := entry.path.absolute()) in seen:
                continue
            seen.add(absolute)
            if reason := entry.reason or (path.is_dir() and _needs_store(entry.path)):
                found.refused.append(Refusal(entry.path, reason))
            else:
                found.files.append(entry.path)
    return found


def _named_entry(path: Path) -> Entry:
    """An entry for a file in ``paths``, which may be a broken link that a shell's glob matched."""
    try:
        path.stat()
    except OSError as error:
        return Entry(path, unreachable_reason(path, error))
    return Entry(path)


def is_foldcomp_database(path: Path) -> bool:
    """True if the file has an index, as Foldcomp databases do."""
    return path.with_name(f"{path.name}.index").is_file()


def _needs_store(path: Path) -> str:
    """The reason why a file is read by building a store only; empty if it is read directly."""
    if path.name == ATOM3D:
        return f"an ATOM3D data set; {_BUILD} {printable(path.parent)}"
    if path.name.lower().endswith(ARCHIVES) or is_foldcomp_database(path):
        return f"an archive; {_BUILD} {printable(path)}"
    return ""


def walk(folder: Path, passed_over: Counter[str], formats: Formats = FORMATS) -> Iterator[Entry]:
    """Yield the entries of a folder and its subfolders that are structures or look like them.

    Entries are sorted within each folder. Links to folders are followed last, each folder once. Hidden
    entries are ignored. A folder with an ATOM3D data set yields only the file of the data set.

    Args:
        folder: folder to search.
        passed_over: is updated with the number of other files, by ending.
        formats: the formats to read.

    Raises:
        OSError: ``folder`` cannot be listed. A subfolder that cannot be listed is an entry with the reason.
    """
    if (folder / ATOM3D).is_file():
        yield Entry(folder / ATOM3D)
        return
    real = folder.resolve()
    search = _Search({_identity(parent) for parent in (real, *real.parents)}, passed_over, formats)
    yield from search.below(folder)
    while search.links:
        yield from search.follow(search.links.popleft())


@dataclass(slots=True)
class _Search:
    """The state of a walk through folders. Folders are identified by device and inode.

    Attributes:
        above: the folder where the walk began, and its parents.
        passed_over: see :func:`walk`.
        formats: the formats to read.
        visited: folders that were searched.
        links: links to folders that are still to be followed.
    """

    above: set[tuple[int, int]]
    passed_over: Counter[str]
    formats: Formats
    visited: set[tuple[int, int]] = field(default_factory=set)
    links: deque[Path] = field(default_factory=deque)

    def below(self, folder: Path) -> Iterator[Entry]:
        """Yield the entries of a folder and its subfolders; not recursive, as folders may be very deep.

        Raises:
            OSError: ``folder`` cannot be listed.
        """
        stack = [self._listed(folder)]
        while stack:
            listed = next(stack[-1], None)
            if listed is None:
                stack.pop()
            elif isinstance(listed, Entry):
                yield listed
            else:
                try:
                    if _identity(listed) in self.visited:  # reached by a link before
                        continue
                    if (listed / ATOM3D).is_file():
                        yield Entry(listed / ATOM3D)
                    else:
                        stack.append(self._listed(listed))
                except OSError as error:
                    yield Entry(listed, f"the folder cannot be listed: {error.strerror}")

    def follow(self, link: Path) -> Iterator[Entry]:
        """Yield the entries below a link to a folder, unless the folder was searched or contains the link."""
        try:
            identity = _identity(link)
            if identity not in self.visited and identity not in self.above:
                yield from self.below(link)
                return
        except OSError as error:
            yield Entry(link, f"the folder cannot be listed: {error.strerror}")
            return
        where = "is searched already" if identity in self.visited else "is above the searched folder"
        yield Entry(link, f"a link to the folder {printable(link.resolve())}, which {where}")

    def _listed(self, folder: Path) -> Iterator[Entry | Path]:
        """Yield the entries of one folder, and the subfolders in it."""
        self.visited.add(_identity(folder))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        return (
            classified
            for entry in entries
            if not entry.name.startswith(".") and (classified := self._classify(entry)) is not None
        )

    def _classify(self, entry: os.DirEntry[str]) -> Entry | Path | None:
        """Return a subfolder, an entry, or ``None`` for other files and for links to follow later."""
        path = Path(entry.path)
        try:
            is_folder = entry.is_dir()
            kind = "" if is_folder or entry.is_file() else special_kind(entry.stat().st_mode)
        except OSError as error:
            return Entry(path, unreachable_reason(path, error))
        if is_folder and entry.is_symlink():
            self.links.append(path)
        elif is_folder:
            return path
        elif kind:
            return Entry(path, f"{kind}, not a file")
        elif (reason := refusal_reason(path, self.formats)) is not None:
            return Entry(path, reason)
        else:
            self.passed_over[ending(entry.name)] += 1
        return None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def unreachable_reason(path: Path, error: OSError) -> str:
    """The reason why a path cannot be opened; names the target of a broken link."""
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return f"a link to {printable(path.readlink())}, which does not exist"
    return f"cannot be opened: {error.strerror}"


def refusal_reason(path: Path, formats: Formats = FORMATS) -> str | None:
    """Why a file that looks like a structure is not read; empty if it is read, ``None`` for others.

    The ending decides. If the ending is unknown, the beginning of the file is read.
    """
    known = reason_by_ending(path.name, formats)
    if known is not None:
        return known
    try:
        content = beginning(path)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    if is_foldcomp_database(path):
        return ""
    if kind := _begins_like(content, path.name, formats):
        if "." not in path.name:  # as in SCOPe
            return ""
        last = printable(path.suffix)
        return (
            f"its text begins like {kind}, but files ending with '{last}' are read only if named: rename it"
        )
    return other.other_structure_format(content) or None


def _begins_like(beginning: bytes, file_name: str, formats: Formats) -> str:
    """Title of the format of a file with this beginning; empty if unknown."""
    name = format_of(beginning, file_name, formats) or ("pdb" if has_pdb_records(beginning) else None)
    return formats[name].title if name else ""


def reason_by_ending(name: str, formats: Formats = FORMATS) -> str | None:
    """The reason why a file with this ending is not read; empty if it is read, ``None`` if unknown."""
    lower = name.lower()
    if is_structure(lower, formats) or lower.endswith(ARCHIVES):
        return ""
    stem, last = _split(lower)
    if (packing := _OTHER_PACKINGS.get(last)) and (is_structure(stem, formats) or stem.endswith(".tar")):
        return f"packed with {packing}"
    if packing and last in (".7z", ".rar"):
        return f"an archive packed with {packing}"
    return _OTHER_FORMATS.get(_split(unpacked_name(lower))[1])


def ending(name: str) -> str:
    """Ending of a file name for counting other files: ``.tsv``, ``.json.gz``."""
    lower = printable(name.lower())
    stem, last = _split(lower)
    whole = _split(stem)[1] + last if last in PACKINGS else last
    return whole if re.fullmatch(r"(\.\w{1,12}){1,2}", whole) else "without a known ending"


def _split(name: str) -> tuple[str, str]:
    """Divide a name before its last dot. Faster than Path, for archives with millions of members."""
    stem, dot, last = name.rpartition(".")
    return (stem, dot + last) if stem else (name, "")


def nothing_found(paths: Iterable[Path], found: FoundFiles) -> StructureError:
    """Return the error for a search that found no file to read."""
    searched = ", ".join(map(str, paths))
    if found.refused:
        summary = f"none of {len(found.refused)} files that look like structures can be read"
        reasons = [f"{item.path}: {item.reason}" for item in found.refused[:_SHOWN]]
        more = [f"... and {rest} more"] if (rest := len(found.refused) - _SHOWN) > 0 else []
        return StructureError(f"no structure files in {searched}: {summary}", *reasons, *more)
    others = [text] if (text := passed_over_text(found.passed_over)) else []
    return StructureError(
        f"no structure files in {searched}", "looked for PDB and mmCIF files by their ending", *others
    )


def passed_over_text(passed_over: Counter[str]) -> str:
    """Describe how many files were ignored: ``13 other files passed over (9 .tsv, 4 .md)``."""
    if not passed_over:
        return ""
    kinds = [f"{count} {kind}" for kind, count in passed_over.most_common(6)]
    kinds += ["..."] * (len(passed_over) > len(kinds))
    total = passed_over.total()
    return f"{total} other file{'s' if total > 1 else ''} passed over ({', '.join(kinds)})"
