"""Read untrusted HDF5 files in a child process, since the library hangs on some damaged files.

External links, virtual datasets and external storage are refused, so that no other file is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.files import UnreadableError
from esmgn_core.machine.child import ChildError, call, limit_for

_MAGIC = b"\x89HDF\r\n\x1a\n"
_MAX_RATIO = 100  # of bytes in memory to bytes of the file
_MAX_SMALL = 1 << 26  # bytes in memory that are allowed for any file
_CHUNK = 1 << 24  # bytes read at once


def read_datasets(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read whole datasets of the root group of an HDF5 file.

    Raises:
        UnreadableError: the file is missing or damaged, lacks a dataset, or keeps it in another file.
    """
    datasets: dict[str, NDArray[Any]] = _called(_read, path, names)
    return datasets


def check_datasets(path: Path, names: Sequence[str]) -> None:
    """Read attributes and datasets in a child process; the file is then safe to open with h5py.

    Datasets that the file lacks are ignored.

    Raises:
        UnreadableError: the file is damaged, or keeps a dataset in another file.
    """
    _called(_check, path, names)


def check_links(path: Path) -> None:
    """Refuse an HDF5 file that links to other files; accept other formats. Call it in a child process.

    Raises:
        UnreadableError: the file has an external link, a virtual dataset or external storage, or is damaged.
    """
    import h5py

    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return

    # A visit ends when a callback returns a value; h5py crashes on exceptions in callbacks.
    def name_of_link(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def name_of_dataset(name: str, item: Any) -> str | None:
        return name if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external) else None

    with _hdf5_errors(), h5py.File(path) as file:
        if outside := file.visititems_links(name_of_link) or file.visititems(name_of_dataset):
            raise _outside(outside)


def _called(function: Any, path: Path, names: Sequence[str]) -> Any:
    try:
        return call(function, path, tuple(names), limit=limit_for(path))
    except ChildError as error:
        raise UnreadableError(f"the HDF5 library cannot read it: {error}") from error


def _read(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    import h5py

    with _hdf5_errors(), h5py.File(path) as file:
        if missing := [name for name in names if name not in file]:
            raise UnreadableError(f"it has no dataset {', '.join(missing)}")
        return {name: np.asarray(_dataset(file, name, path)[()]) for name in names}


def _check(path: Path, names: Sequence[str]) -> None:
    import h5py

    with _hdf5_errors(), h5py.File(path) as file:
        for attribute in file.attrs.values():
            del attribute
        for name in names:
            if name not in file and file.get(name, getlink=True, default=None) is None:
                continue
            dataset = _dataset(file, name, path)
            rows = max(_CHUNK * len(dataset) // max(dataset.nbytes, 1), 1) if dataset.shape else 1
            for first in range(0, len(dataset) if dataset.shape else 0, rows):
                dataset[first : first + rows]


def _dataset(file: Any, name: str, path: Path) -> Any:
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise _outside(name)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UnreadableError(f"'{name}' is not a dataset")
    if dataset.is_virtual or dataset.external:
        raise _outside(name)
    if dataset.nbytes > max(_MAX_SMALL, _MAX_RATIO * path.stat().st_size):
        raise UnreadableError(
            f"'{name}' expands to {dataset.nbytes:,} bytes: damaged, or made to fill the memory"
        )
    return dataset


def _outside(name: str) -> UnreadableError:
    return UnreadableError(f"'{name}' is a link or is kept in another file, which is not followed")


@contextmanager
def _hdf5_errors() -> Iterator[None]:
    """Convert exceptions of h5py on damaged files to :class:`UnreadableError`."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableError(f"the HDF5 library cannot read it: {error or type(error).__name__}") from error
