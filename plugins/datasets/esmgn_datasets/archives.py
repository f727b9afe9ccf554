"""Published archives, unpacked into the cache."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

from filelock import FileLock

from esmgn_core.errors import StructureError
from esmgn_core.weights import RemoteFile, cache_dir, fetch


def unpacked(archive: RemoteFile) -> Path:
    """Return the folder with the content of an archive; download, verify and unpack it once.

    The archive is a zip or tar file. Zip files inside it are unpacked too. If several processes call this
    at once, one unpacks and the others wait.

    Raises:
        WeightsError: the archive cannot be downloaded, or its checksum differs.
        StructureError: the archive cannot be unpacked.
    """
    folder = cache_dir() / "datasets" / archive.filename.partition(".")[0]
    if folder.is_dir():
        return folder
    file = fetch(archive, setting=None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return folder
        # Unpack beside the folder and rename, so that an interrupted process leaves no half-filled folder.
        partial = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _unpack(file, partial)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
            raise StructureError(f"cannot unpack {file} into {folder}: {error}") from error
        partial.rename(folder)
    return folder


def _unpack(file: Path, folder: Path) -> None:
    if tarfile.is_tarfile(file):
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
        return
    with zipfile.ZipFile(file) as zipped:
        zipped.extractall(folder)  # noqa: S202 - zipfile writes nothing outside the folder
    for inner in sorted(folder.rglob("*.zip")):
        with zipfile.ZipFile(inner) as zipped:
            zipped.extractall(inner.parent)  # noqa: S202 - as above
        inner.unlink()


def folder_with(root: Path, *names: str, what: str) -> Path:
    """Return the first folder at or below ``root`` that contains all of ``names``.

    Raises:
        StructureError: there is no such folder.
    """
    for candidate in (root, *sorted(path for path in root.rglob("*") if path.is_dir())):
        if all((candidate / name).exists() for name in names):
            return candidate
    raise StructureError(f"no {what} in {root}", f"looked for a folder with {', '.join(names)}")
