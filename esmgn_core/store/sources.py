"""Find the items of sources, one structure each, without reading them."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from esmgn_core.errors import DataError, StructureError
from esmgn_core.io.atom3d import Atom3DRecords
from esmgn_core.io.files import UnreadableError, as_utf8, special_kind, unpacked_name
from esmgn_core.io.foldcomp import foldcomp_entries, is_foldcomp
from esmgn_core.io.folders import (
    ARCHIVES,
    ATOM3D,
    PACKED_TAR,
    ending,
    is_foldcomp_database,
    reason_by_ending,
    unreachable_reason,
    walk,
)
from esmgn_core.io.formats import FORMATS, Formats
from esmgn_core.io.names import is_structure, structure_name
from esmgn_core.io.tar import Member, members
from esmgn_core.io.trajectory import TRAJECTORY_SUFFIXES, num_frames
from esmgn_core.store.chains import ChainList

_TRIED = 8  # records to try, until one can be read and shows the tables

ATOM3D_TABLES = ("atoms", "original_atoms", "mutated_atoms")


@dataclass(frozen=True, slots=True)
class Item:
    """One structure to read.

    Attributes:
        kind: how it is read: ``file``, ``tar``, ``zip``, ``atom3d``, ``foldcomp`` or ``trajectory``.
        source: absolute path of the file.
        member: the structure within the file; empty if the file is one structure.
        name: name of the protein.
        offset: offset of a member of a tar archive.
        size: number of bytes of a member of an archive.
        chain: the chain to keep; empty for all chains.
        reason: why it cannot be read, if the search found a reason.
    """

    kind: str
    source: str
    member: str = ""
    name: str = ""
    offset: int = 0
    size: int = 0
    chain: str = ""
    reason: str = ""

    @property
    def long_name(self) -> str:
        """Path, member and chain; unique."""
        chain = f"-{self.chain}" if self.chain else ""
        return self.source + (f"/{self.member}" if self.member else "") + chain


def find_items(
    sources: Iterable[str],
    *,
    topology: Path | None = None,
    chains: ChainList | None = None,
    passed_over: Counter[str] | None = None,
    formats: Formats = FORMATS,
) -> Iterator[Item]:
    """Yield the items of the sources in a fixed order: sources as given, folders sorted.

    In an archive ``.cif`` members come last.

    Args:
        sources: files, folders (searched with all folders inside), archives, globs, ATOM3D folders,
            Foldcomp databases, trajectories.
        topology: a structure file with the atoms of the trajectories.
        chains: chains to read, each as one protein; everything else is left out.
        passed_over: is updated with the number of other files in folders and archives, by ending.
        formats: the formats to read.

    Raises:
        DataError: a source does not exist, a folder cannot be listed, or a trajectory has no topology. A
            damaged file is an item with a reason instead.
    """
    search = _Search(topology, Counter() if passed_over is None else passed_over, formats)
    paths = _distinct([path for source in sources for path in _paths(source)], formats)
    items = (item for path in paths for item in _items(path, search))
    return items if chains is None else _chosen(items, chains)


@dataclass(frozen=True, slots=True)
class _Search:
    """Arguments of :func:`find_items`."""

    topology: Path | None
    others: Counter[str]
    formats: Formats


def _chosen(items: Iterable[Item], chains: ChainList) -> Iterator[Item]:
    """Yield the listed chains of the items. If any is found, the others are items with a reason."""
    readings = Counter(listed.name for several in chains.values() for listed in several)
    waiting: dict[str, list[Item]] = {}
    found: set[str] = set()
    for item in items:
        for chain, name in chains.get(item.name.lower(), ()):
            found.add(name)
            one = replace(item, chain=chain, name=name)
            if readings[name] == 1:
                yield one
            else:  # 1ABC-A-1 may be a chain of two entries, and the other may follow
                waiting.setdefault(name, []).append(one)
    for name, several in waiting.items():
        if len({item.chain for item in several}) == 1:
            yield from several
        else:
            named = " and ".join(
                f"chain {item.chain} of {Path(item.member or item.source).name}" for item in several
            )
            yield Item("file", several[0].source, name=name, reason=f"the list names {named}: rename a file")
    for entry in sorted(chains) if found else ():
        for chain, name in chains[entry]:
            if name not in found:
                found.add(name)
                yield Item("file", entry, name=name, chain=chain, reason="no file of this name")


def _paths(source: str) -> list[Path]:
    path = Path(source).expanduser().absolute()
    if path.exists() or path.is_symlink():
        return [path]
    found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        what = "no file matches" if set(source) & set("*?[") else "no such file or folder:"
        raise DataError(f"{what} {source}")
    return found


def _distinct(paths: Iterable[Path], formats: Formats) -> Iterator[Path]:
    """Yield the paths once each, without those that the search of another path finds."""
    distinct = dict.fromkeys(paths)
    folders = {path for path in distinct if path.is_dir()}
    for path in distinct:
        above = next((folder for folder in path.parents if folder in folders), None)
        found = above is not None and (path in folders or is_structure(path.name, formats))
        if above is None or not found or any(p.startswith(".") for p in path.relative_to(above).parts):
            yield path


def _items(path: Path, search: _Search) -> Iterator[Item]:
    if not path.is_dir():
        try:
            kind = special_kind(path.stat().st_mode)
        except OSError as error:
            yield _refused(path, unreachable_reason(path, error))
            return
        if kind:
            yield _refused(path, f"{kind}, not a file")
        else:
            yield from _file_items(path, search)
        return
    try:
        for entry in walk(path, search.others, search.formats):
            if entry.reason:
                yield _refused(entry.path, entry.reason)
                continue
            try:
                yield from _file_items(entry.path, search)
            except DataError as error:  # one file must not end the search of a folder
                yield _refused(entry.path, "; ".join([error.message, *error.hints]))
            except OSError as error:
                yield _refused(entry.path, f"cannot be opened: {error.strerror}")
    except OSError as error:
        raise DataError(f"cannot list {path}: {error.strerror}") from error


def _refused(path: Path, reason: str) -> Item:
    return Item("file", str(path), name=as_utf8(path.name), reason=reason)


def _file_items(path: Path, search: _Search) -> Iterator[Item]:
    """Yield the items of one file; if it cannot be read further, an item with the reason."""
    lower = path.name.lower()
    try:
        if path.name == ATOM3D:
            path = path.parent
            yield from _atom3d(path)
        elif lower.endswith(PACKED_TAR):
            hint = f"inflate it once: gunzip {path}" if lower.endswith("gz") else "unpack it"
            yield _refused(path, f"a compressed tar cannot be read in random order: {hint}")
        elif lower.endswith(".tar"):
            yield from _archive("tar", path, members, search)
        elif lower.endswith(".zip"):
            yield from _archive("zip", path, _zip, search)
        elif is_foldcomp(path.name) or is_foldcomp_database(path):
            for member in foldcomp_entries(path):
                yield Item("foldcomp", str(path), member, structure_name(member or path.name))
        elif lower.endswith(TRAJECTORY_SUFFIXES):
            yield from _trajectory(path, search.topology)
        else:
            yield Item("file", str(path), name=structure_name(path, search.formats))
    except (UnreadableError, StructureError) as error:
        yield _refused(path, str(error))


def _atom3d(folder: Path) -> Iterator[Item]:
    records = Atom3DRecords(folder)
    tables = _tables(records)
    for number in range(len(records)):
        for table in tables:
            member = f"{number}/{table}"
            yield Item("atom3d", str(folder), member, f"{as_utf8(folder.name)}-{number}-{table}")


def _tables(records: Atom3DRecords) -> list[str]:
    """Names of the atom tables of records, by the first record that can be read."""
    reason = "it has no records"
    for number in range(min(len(records), _TRIED)):
        try:
            return [name for name in ATOM3D_TABLES if name in records[number]]
        except StructureError as error:
            reason = error.message
    raise UnreadableError(reason)


def _trajectory(path: Path, topology: Path | None) -> Iterator[Item]:
    if topology is None:
        raise DataError(
            f"{path} is a trajectory, which has no atom names", "give a structure of it: --topology FILE"
        )
    for frame in range(num_frames(path, topology)):
        yield Item("trajectory", str(path), f"{frame}@{topology.absolute()}", f"{as_utf8(path.stem)}-{frame}")


def _archive(
    kind: str, path: Path, entries: Callable[[Path], Iterable[Member]], search: _Search
) -> Iterator[Item]:
    """Yield the items of an archive. A ``.cif`` with a ``.pdb`` twin is not read, as PDB reads faster.

    ``.cif`` members come last, in a second pass that most archives do not need.
    """
    with_pdb: set[int] = set()
    has_cif = False
    for entry in entries(path):
        reason = entry.reason or reason_by_ending(entry.name, search.formats)
        if not entry.reason and _has_ending(entry, ".cif"):
            has_cif = True
        elif reason is None:
            search.others[ending(entry.name.rpartition("/")[2])] += 1
        else:
            if not entry.reason and entry.name.lower().endswith(ARCHIVES):
                reason = "an archive inside an archive: unpack it first"
            if not reason and _has_ending(entry, ".pdb"):
                with_pdb.add(_key(entry))
            yield _member(kind, path, entry, search.formats, reason)
    for entry in entries(path) if has_cif else ():
        if not entry.reason and _has_ending(entry, ".cif"):
            item = _member(kind, path, entry, search.formats)
            if _key(entry) in with_pdb:
                name = entry.name.rpartition("/")[2]
                item = replace(item, name=name, reason="its .pdb twin is read instead")
            yield item


def _member(kind: str, path: Path, entry: Member, formats: Formats, reason: str = "") -> Item:
    name = structure_name(entry.name, formats)
    return Item(kind, str(path), entry.name, name, entry.offset, entry.size, reason=reason)


def _has_ending(entry: Member, suffix: str) -> bool:
    return unpacked_name(entry.name).lower().endswith(suffix)


def _key(entry: Member) -> int:
    """Hash of folder and name without endings; small, since archives have millions of members."""
    return hash(f"{entry.name.rpartition('/')[0]}/{structure_name(entry.name)}")


def _zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        yield Member(path.name, 0, 0, f"a damaged zip archive ({error}): copy or download it again")
        return
    yield from (Member(entry.filename, 0, entry.file_size) for entry in entries if not entry.is_dir())
