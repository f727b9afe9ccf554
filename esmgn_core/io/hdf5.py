"""HDF5 files of others: read in a child process, since the library hangs on some damaged files.

Nothing outside the file is read: external links, virtual datasets and external storage are refused.
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
_MAX_RATIO = 100  # of the bytes in memory to those of the file
_MAX_SMALL = 1 << 26  # bytes that any file may unfold to
_PIECE = 1 << 24  # bytes read at once


def read_datasets(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Datasets of the root group of an HDF5 file, whole.

    Raises:
        UnreadableError: the file is missing, damaged, lacks one of them, or keeps it in another file.
    """
    datasets: dict[str, NDArray[Any]] = _called(_read, path, names)
    return datasets


def check_datasets(path: Path, names: Sequence[str]) -> None:
    """Read the attributes and some datasets of an HDF5 file once, so that h5py may open it afterwards.

    Datasets that the file lacks are passed over.

    Raises:
        UnreadableError: the file is damaged, or keeps one of them in another file.
    """
    _called(_check, path, names)


def check_links(path: Path) -> None:
    """Refuse an HDF5 file that points to others; files of other formats pass. Call it in a child process.

    Raises:
        UnreadableError: the file has an external link, a virtual dataset or external storage, or is damaged.
    """
    import h5py

    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return

    # What the callbacks return ends the visit; h5py bears no exception in them.
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
            rows = max(_PIECE * len(dataset) // max(dataset.nbytes, 1), 1) if dataset.shape else 1
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
            f"'{name}' unfolds to {dataset.nbytes:,} bytes: damaged, or made to fill the memory"
        )
    return dataset


def _outside(name: str) -> UnreadableError:
    return UnreadableError(f"'{name}' is a link or is kept in another file, which is not followed")


@contextmanager
def _hdf5_errors() -> Iterator[None]:
    """Turn whatever a damaged file makes h5py raise into :class:`UnreadableError`."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableError(f"the HDF5 library cannot read it: {error or type(error).__name__}") from error
