"""Download structures from AlphaFold DB (whole proteomes, single entries) and RCSB."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from esmgn_core.errors import DataError, did_you_mean
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.formats import unpacked_text
from esmgn_core.machine.download import DownloadError, download, offline
from esmgn_core.machine.files import file_digest, locked, write_error, write_errors
from esmgn_core.machine.parse import parse_json
from esmgn_core.printable import counted
from esmgn_core.text import read_lines

_AFDB_ARCHIVES = "https://ftp.ebi.ac.uk/pub/databases/alphafold/v2/{}.tar"
_AFDB_LIST = "https://ftp.ebi.ac.uk/pub/databases/alphafold/download_metadata.json"
_AFDB_LATEST = "https://ftp.ebi.ac.uk/pub/databases/alphafold/latest/{}.tar"
_AFDB_ENTRY = "https://alphafold.ebi.ac.uk/files/AF-{}-F1-model_v{}.pdb"
_RCSB_ENTRY = "https://files.rcsb.org/download/{}.cif.gz"
_AFDB_VERSIONS = (6, 4)
"""Versions of AlphaFold DB entries, in the order in which they are tried."""
_SHOWN = 10
"""Largest number of entries in a message."""
_GZIP = b"\x1f\x8b"
_STRUCTURES = (".cif.gz", ".pdb")
_PAUSE = 0.1
"""Seconds between requests, to limit the load of the servers."""

_PDB_ID = re.compile(r"[1-9][A-Za-z0-9]{3}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ACCESSION = re.compile(
    r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}", re.IGNORECASE
)


class Archive(NamedTuple):
    """A proteome of AlphaFold DB.

    ``num_structures`` is the number that the server reports, for the v2 files in 2021. The latest files have
    a size in bytes instead of a checksum.
    """

    name: str
    md5: str
    num_structures: int
    size: int = 0


ALPHAFOLD_V1 = (
    Archive("UP000006548_3702_ARATH_v2", "4cd5f596ebfc3d45d9f6b647dc5684af", 27434),
    Archive("UP000001940_6239_CAEEL_v2", "b89bee5507f78f971417cc8fd75b40f7", 19694),
    Archive("UP000000559_237561_CANAL_v2", "a6459a1f1a0a22fbf25f1c05c2889ae3", 5974),
    Archive("UP000000437_7955_DANRE_v2", "24dfba8ab93dbf3f51e7db6b912dd6b4", 24664),
    Archive("UP000002195_44689_DICDI_v2", "6b81b3086ed9e57e04a54f148ecf974c", 12622),
    Archive("UP000000803_7227_DROME_v2", "a50f4fd9f581c89e79e1b2857e54b786", 13458),
    Archive("UP000000625_83333_ECOLI_v2", "fdd16245769bf1f7d91a0e285ac00e52", 4363),
    Archive("UP000008827_3847_SOYBN_v2", "66b9750c511182bc5f8ee71fe2ab2a17", 55799),
    Archive("UP000005640_9606_HUMAN_v2", "5dadeb5aac704025cac33f7557794858", 23391),
    Archive("UP000008153_5671_LEIIN_v2", "99b22e0f050d845782d914becbfe4d2f", 7924),
    Archive("UP000000805_243232_METJA_v2", "da938dfae4fabf6e144f4b5ede5885ec", 1773),
    Archive("UP000000589_10090_MOUSE_v2", "2003c09d437cfb4093552c588a33e06d", 21615),
    Archive("UP000001584_83332_MYCTU_v2", "fba59f386cfa33af3f70ae664b7feac0", 3988),
    Archive("UP000059680_39947_ORYSJ_v2", "d7a1a6c02213754ee1a1ffb3b41ad4ba", 43649),
    Archive("UP000001450_36329_PLAF7_v2", "8a0e8deadffec2aba3b7edd6534b7481", 5187),
    Archive("UP000002494_10116_RAT_v2", "1854d0bbcf819de1de7b0cfdb6d32b2e", 21272),
    Archive("UP000002311_559292_YEAST_v2", "d9720e3809db6916405db096b520c236", 6040),
    Archive("UP000002485_284812_SCHPO_v2", "6b918e9e4d645b12a80468bcea805f1f", 5128),
    Archive("UP000008816_93061_STAA8_v2", "ed0eefe927eb8c3b81cf87eaabbb8d6e", 2888),
    Archive("UP000002296_353153_TRYCC_v2", "051369e0dc8fed4798c8b2c68e6cbe2e", 19036),
    Archive("UP000007305_4577_MAIZE_v2", "b05ff57164167851651c625dca66ed28", 39299),
)
"""The 21 proteomes of the pre-training of ESM-GearNet, set "v1" there, whose code downloads the v2 files."""

SETS = {"alphafold_v1": ALPHAFOLD_V1}
LATEST = "alphafold_latest"
"""Name of the set of all proteomes of the latest version of AlphaFold DB."""


def fetch_structures(what: str, folder: Path, only: Sequence[str] = ()) -> Iterator[str]:
    """Download a named set or a list of entries into ``folder``; yield messages on the result.

    Each archive has its own folder. Existing files are not downloaded again.

    Args:
        what: a name in ``SETS``, ``LATEST``, or a file with a PDB id or a UniProt accession in each line.
        folder: output folder.
        only: texts; of a set, only archives with one of them in their name are downloaded.

    Raises:
        DataError: the name is unknown, a line has no identifier, offline mode is set, an archive cannot be
            downloaded or has another checksum or size, or none of the entries can be downloaded.
        RunError: another process downloads into the folder.
    """
    if what in (*SETS, LATEST):
        archives = SETS[what] if what in SETS else _listed(folder)
        chosen = [a for a in archives if not only or any(text in a.name for text in only)]
        if not chosen:
            raise DataError(f"no archive of {what} has {', '.join(only)} in its name")
        for archive in chosen:
            yield _fetch_archive(archive, folder / archive.name)
        return
    path = Path(what).expanduser()
    if not path.is_file():
        hints = (
            *did_you_mean(what, (*SETS, LATEST)),
            f"available: {', '.join((*SETS, LATEST))}, or a file of identifiers",
        )
        raise DataError(f"no such set or file: {what}", *hints)
    entries = list(dict.fromkeys(_entries(path)))
    if not entries:
        raise DataError(f"no identifiers in {path}", "expected a PDB id or a UniProt accession in each line")
    failed = {}
    missing = [some for some in entries if not any((folder / name).exists() for name, _ in some)]
    with _locked_folder(folder) if missing else nullcontext():
        for candidates in missing:
            if reason := _fetch_first(candidates, folder):
                failed[candidates[-1][0]] = reason
    if len(failed) == len(entries):
        reasons = [f"{name}: {reason}" for name, reason in failed.items()]
        more = [f"and {len(reasons) - _SHOWN} more"] * (len(reasons) > _SHOWN)
        raise DataError(
            f"none of {counted(len(entries), 'entry', 'entries')} was fetched", *reasons[:_SHOWN], *more
        )
    yield f"{len(entries) - len(failed)} of {counted(len(entries), 'entry', 'entries')} in {folder}"
    yield from (f"{name}: {reason}" for name, reason in failed.items())


def _listed(folder: Path) -> list[Archive]:
    """Download the list of proteomes of the server into ``folder``, and read it."""
    target = folder / "download_metadata.json"
    try:
        with _locked_folder(folder):
            _download(_AFDB_LIST, target)
        return [
            Archive(
                _archive_name(item["archive_name"]),
                md5="",
                num_structures=int(item["num_predicted_structures"]),
                size=int(item["size_bytes"]),
            )
            for item in parse_json(target.read_bytes())
            if item.get("type", "proteome") == "proteome"
        ]
    except DownloadError as error:
        raise DataError(f"cannot download {_AFDB_LIST}: {error}", "run the command again") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"the list of AlphaFold DB has an unknown format: {type(error).__name__}: {error}",
            f"look at {target}",
            "the set alphafold_v1 needs no list",
        ) from error


def _archive_name(name: str) -> str:
    """Check the name of an archive, which becomes part of a path and a URL, and remove its ending.

    Raises:
        ValueError: it has characters that are not allowed, such as ``/``.
    """
    stem = name.removesuffix(".tar")
    if not _NAME.fullmatch(stem):
        raise ValueError(f"{name!a} is not the name of an archive")
    return stem


def _entries(path: Path) -> Iterator[tuple[tuple[str, str], ...]]:
    """Yield the possible file names and URLs of each entry of a list; of ``1ABC-A`` the entry 1ABC."""
    try:
        lines = list(read_lines(path))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name = re.split(r"[\s,_-]", line.strip())[0]
        if _PDB_ID.fullmatch(name):
            yield ((f"{name.lower()}.cif.gz", _RCSB_ENTRY.format(name.upper())),)
        elif _ACCESSION.fullmatch(name):
            urls = [_AFDB_ENTRY.format(name.upper(), version) for version in _AFDB_VERSIONS]
            yield tuple((url.rpartition("/")[2], url) for url in urls)
        else:
            raise DataError(f"{path}, line {number}: '{name}' is neither a PDB id nor a UniProt accession")


def _fetch_first(candidates: Sequence[tuple[str, str]], folder: Path) -> str:
    """Download the first of these files that there is; the reason if none can be had."""
    reason = ""
    for name, url in candidates:
        time.sleep(_PAUSE)
        try:
            _download(url, folder / name)
        except DownloadError as error:
            reason = str(error)
        else:
            return ""
    return reason


def _fetch_archive(archive: Archive, folder: Path) -> str:
    target = folder / f"{archive.name}.tar"
    if target.exists():
        return f"{target}: exists already"
    url = (_AFDB_LATEST if archive.size else _AFDB_ARCHIVES).format(archive.name)
    try:
        with _locked_folder(target.parent):
            _download(url, target, archive.md5, archive.size)
    except DownloadError as error:
        raise DataError(f"cannot download {url}: {error}", "run the command again to resume") from error
    return f"{target}: {counted(archive.num_structures, 'structure')} expected"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Lock the folder for the block, since two downloads would append to one file.

    Raises:
        RunError: another process downloads into it.
        WriteError: the folder cannot be written.
    """
    if forbidden := offline():
        raise DataError(f"files that {folder} lacks must be downloaded, and {forbidden} is set")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", f"another process downloads into {folder}", "wait for its end, or stop it"):
        yield


def _why_not_structure(part: Path, name: str) -> str:
    """Why a downloaded file is not a structure; empty if it has atoms, of a protein or not."""
    try:
        content = part.read_bytes()
        if name.endswith(".gz") and not content.startswith(_GZIP):
            return "it is not gzipped"
        format_name, text = unpacked_text(content, name)
    except UnreadableError as error:
        return str(error)
    wanted = b"_atom_site." if format_name == "mmcif" else b"\nATOM  "
    return "" if format_name == "bcif" or wanted in text or b"\nHETATM" in text else "it has no atoms"


def _download(url: str, target: Path, md5: str = "", size: int = 0) -> None:
    """Download to a temporary file, check it, and rename it to ``target``."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        download(url, part)
        problem = ""
        if md5 and (found := file_digest(part, "md5")) != md5:
            problem = f"the file has the MD5 checksum {found}, expected {md5}"
        elif size and (found_size := part.stat().st_size) != size:
            problem = f"the file has {found_size:,} bytes, expected {size:,}"
        elif target.name.endswith(_STRUCTURES) and (reason := _why_not_structure(part, target.name)):
            problem = f"the server did not send a structure: {reason}"
        if problem:
            part.unlink()
            raise DownloadError(problem)
        part.replace(target)
    except OSError as error:
        raise write_error(part, error) from error
