"""Search folders for structure files, with an account of every entry."""

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
"""The file that makes a folder an ATOM3D data set."""

PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ARCHIVES = (".tar", ".zip", *PACKED_TAR, ".fcz")
"""Endings of what holds structures but is not structure text; stores are built from it."""

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
"""Endings of structure formats that are not read, with the reason and what to do."""

_SHOWN = 3  # reasons in an error
_BUILD = "a store holds what is in it: esmgn data build"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder.

    Attributes:
        path: where it is.
        reason: why it is not read; empty if it is to be read.
    """

    path: Path
    reason: str = ""


@dataclass(slots=True)
class FoundFiles:
    """The result of a search.

    Attributes:
        files: structure files.
        refused: what looks like a structure and cannot be read, and broken entries, with the reasons.
        passed_over: other files, counted by ending.
    """

    files: list[Path] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def find_structures(paths: Iterable[str | os.PathLike[str]], formats: Formats = FORMATS) -> list[Path]:
    """The structure files among ``paths`` and, recursively, inside the folders among them.

    A file that is named itself is taken whatever its ending; in a folder the ending decides
    (``.pdb .pdb1 .ent .cif .mmcif .bcif .pdbqt``, each also with ``.gz``, ``.bz2`` or ``.xz``), and hidden
    files are passed over.

    Returns:
        Paths in the order of ``paths``, sorted within each folder, every file once.

    Raises:
        StructureError: a path does not exist, or a folder among ``paths`` cannot be listed.
    """
    named = [Path(path) for path in paths]
    found = search(named, formats).files
    return [path for path in found if path in named or is_structure(path.name, formats)]


def search(paths: Iterable[str | os.PathLike[str]], formats: Formats = FORMATS) -> FoundFiles:
    """Like :func:`find_structures`, with an account of every other entry.

    Files without any ending are taken if their text begins like a structure.

    Raises:
        StructureError: as :func:`find_structures`.
    """
    found = FoundFiles()
    seen: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists() and not path.is_symlink():
            raise StructureError(f"no such file or directory: {path}")
        try:
            entries = list(walk(path, found.passed_over, formats)) if path.is_dir() else [_named(path)]
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


def _named(path: Path) -> Entry:
    """A file that is named itself; a shell may have found a broken link."""
    try:
        path.stat()
    except OSError as error:
        return Entry(path, why_unreachable(path, error))
    return Entry(path)


def is_foldcomp_database(path: Path) -> bool:
    """True if the index of a Foldcomp database is beside the file."""
    return path.with_name(f"{path.name}.index").is_file()


def _needs_store(path: Path) -> str:
    if path.name == ATOM3D:
        return f"an ATOM3D data set; {_BUILD} {printable(path.parent)}"
    if path.name.lower().endswith(ARCHIVES) or is_foldcomp_database(path):
        return f"an archive; {_BUILD} {printable(path)}"
    return ""


def walk(folder: Path, passed_over: Counter[str], formats: Formats = FORMATS) -> Iterator[Entry]:
    """Entries of a folder and of all folders inside that may hold structures, or look as if they did.

    They are sorted within each folder. Links to folders are followed at the end, each folder once. What is
    hidden is left out, and a folder with an ATOM3D data set is its one file.

    Args:
        folder: where to search.
        passed_over: counts the other files, by ending.
        formats: the formats that are read.

    Raises:
        OSError: ``folder`` cannot be listed; a folder inside is an entry with that reason.
    """
    if (folder / ATOM3D).is_file():
        yield Entry(folder / ATOM3D)
        return
    real = folder.resolve()
    search = _Search({_identity(place) for place in (real, *real.parents)}, passed_over, formats)
    yield from search.below(folder)
    while search.links:
        yield from search.follow(search.links.popleft())


@dataclass(slots=True)
class _Search:
    """A walk through folders.

    Attributes:
        above: the folder where it began, and those above.
        passed_over: see :func:`walk`.
        formats: the formats that are read.
        visited: folders that were searched.
        links: links to folders, to be followed later.
    """

    above: set[tuple[int, int]]
    passed_over: Counter[str]
    formats: Formats
    visited: set[tuple[int, int]] = field(default_factory=set)
    links: deque[Path] = field(default_factory=deque)

    def below(self, folder: Path) -> Iterator[Entry]:
        """Entries of a folder and of those inside, which may be deeper than the stack of Python.

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
                    if _identity(listed) in self.visited:  # a link came before
                        continue
                    if (listed / ATOM3D).is_file():
                        yield Entry(listed / ATOM3D)
                    else:
                        stack.append(self._listed(listed))
                except OSError as error:
                    yield Entry(listed, f"the folder cannot be listed: {error.strerror}")

    def follow(self, link: Path) -> Iterator[Entry]:
        """Entries below a link to a folder, unless that was searched or is above."""
        try:
            identity = _identity(link)
            if identity not in self.visited and identity not in self.above:
                yield from self.below(link)
                return
        except OSError as error:
            yield Entry(link, f"the folder cannot be listed: {error.strerror}")
            return
        why = (
            "which is searched already" if identity in self.visited else "which is above the searched folder"
        )
        yield Entry(link, f"a link to the folder {printable(link.resolve())}, {why}")

    def _listed(self, folder: Path) -> Iterator[Entry | Path]:
        """Entries of one folder, and the folders in it."""
        self.visited.add(_identity(folder))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        return (
            judged
            for entry in entries
            if not entry.name.startswith(".") and (judged := self._judged(entry)) is not None
        )

    def _judged(self, entry: os.DirEntry[str]) -> Entry | Path | None:
        """A folder, an entry with its reason, or ``None`` for a file passed over or a link kept for later."""
        path = Path(entry.path)
        try:
            is_folder = entry.is_dir()
            kind = "" if is_folder or entry.is_file() else special_kind(entry.stat().st_mode)
        except OSError as error:
            return Entry(path, why_unreachable(path, error))
        if is_folder and entry.is_symlink():
            self.links.append(path)
        elif is_folder:
            return path
        elif kind:
            return Entry(path, f"{kind}, not a file")
        elif (reason := why_not(path, self.formats)) is not None:
            return Entry(path, reason)
        else:
            self.passed_over[ending(entry.name)] += 1
        return None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def why_unreachable(path: Path, error: OSError) -> str:
    """The reason why a path cannot be opened; of a broken link, where it leads."""
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return f"a link to {printable(path.readlink())}, which does not exist"
    return f"cannot be opened: {error.strerror}"


def why_not(path: Path, formats: Formats = FORMATS) -> str | None:
    """Empty if a file of a folder is to be read, the reason if it looks like a structure and is not read.

    ``None`` for any other file. The ending decides; the beginning of a file is read if its ending is of
    another kind.
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
        if "." not in path.name:  # as SCOPe names its files
            return ""
        last = printable(path.suffix)
        return (
            f"its text begins like {kind}, but files ending with '{last}' are read only if named: rename it"
        )
    return other.other_structure_format(content) or None


def _begins_like(beginning: bytes, file_name: str, formats: Formats) -> str:
    """Title of the format that the beginning of a file has; empty if it has none."""
    name = format_of(beginning, file_name, formats) or ("pdb" if has_pdb_records(beginning) else None)
    return formats[name].title if name else ""


def reason_by_ending(name: str, formats: Formats = FORMATS) -> str | None:
    """Empty if a file or member of an archive is to be read, the reason if its format is not read.

    ``None`` if its ending is that of neither.
    """
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
    """Ending of a file name, by which files that are passed over are counted: ``.tsv``, ``.json.gz``."""
    lower = printable(name.lower())
    stem, last = _split(lower)
    whole = _split(stem)[1] + last if last in PACKINGS else last
    return whole if re.fullmatch(r"(\.\w{1,12}){1,2}", whole) else "without a known ending"


def _split(name: str) -> tuple[str, str]:
    """A name and its last ending; not by Path, since archives have millions of members."""
    stem, dot, last = name.rpartition(".")
    return (stem, dot + last) if stem else (name, "")


def nothing_found(paths: Iterable[Path], found: FoundFiles) -> StructureError:
    """The error of a search that found no file to read."""
    places = ", ".join(map(str, paths))
    if found.refused:
        what = f"none of {len(found.refused)} files that look like structures can be read"
        reasons = [f"{item.path}: {item.reason}" for item in found.refused[:_SHOWN]]
        more = [f"... and {rest} more"] if (rest := len(found.refused) - _SHOWN) > 0 else []
        return StructureError(f"no structure files in {places}: {what}", *reasons, *more)
    others = [text] if (text := passed_over_text(found.passed_over)) else []
    return StructureError(
        f"no structure files in {places}", "looked for PDB and mmCIF files by their ending", *others
    )


def passed_over_text(passed_over: Counter[str]) -> str:
    """How many files were passed over, by ending: ``13 other files passed over (9 .tsv, 4 .md)``."""
    if not passed_over:
        return ""
    kinds = [f"{count} {kind}" for kind, count in passed_over.most_common(6)]
    kinds += ["..."] * (len(passed_over) > len(kinds))
    total = passed_over.total()
    return f"{total} other file{'s' if total > 1 else ''} passed over ({', '.join(kinds)})"
