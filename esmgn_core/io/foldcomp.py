"""Foldcomp files and databases, through the package foldcomp, which is an extra."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esmgn_core.errors import DataError
from esmgn_core.io.files import UnreadableError

_SUFFIX = ".fcz"


def is_foldcomp(name: str) -> bool:
    """Whether a file of this name is one structure in Foldcomp's format."""
    return name.lower().endswith(_SUFFIX)


def foldcomp_entries(path: Path) -> Iterator[str]:
    """Entries of a Foldcomp database, by the line of its lookup table; one empty entry for a ``.fcz`` file.

    Raises:
        DataError: the database has no table of names, or the package foldcomp is not installed.
    """
    _package()
    if is_foldcomp(path.name):
        yield ""
        return
    lookup = path.with_name(path.name + ".lookup")
    if not lookup.is_file():
        raise DataError(f"{path} looks like a Foldcomp database, but {lookup.name} is missing")
    with lookup.open(encoding="utf-8") as lines:
        for line in lines:
            yield line.split("\t")[1]


def foldcomp_pdb(path: Path, entry: str) -> bytes:
    """One entry as PDB text.

    Raises:
        DataError: the package foldcomp is not installed.
        UnreadableError: the entry cannot be decompressed.
    """
    foldcomp = _package()
    try:
        if not entry:
            _, text = foldcomp.decompress(path.read_bytes())
            return _bytes(text)
        with foldcomp.open(str(path), ids=[entry]) as database:
            _, text = database[0]
            return _bytes(text)
    except (foldcomp.error, OSError, ValueError, IndexError) as error:
        raise UnreadableError(f"foldcomp cannot read it: {error}") from error


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _package() -> Any:
    try:
        return importlib.import_module("foldcomp")
    except ImportError as error:
        raise DataError(
            "Foldcomp files need the package foldcomp (GPL-3.0)", "install it: pip install 'esmgn[foldcomp]'"
        ) from error
