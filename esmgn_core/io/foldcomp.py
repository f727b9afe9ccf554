"""Read Foldcomp files and databases with the package foldcomp, which is an extra.

Some damaged files crash its C++ code, so it runs in a child process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.io.files import UnreadableError
from esmgn_core.machine.child import ChildError, call

_SUFFIX = ".fcz"


def is_foldcomp(name: str) -> bool:
    """True if the file name is that of a single structure in Foldcomp format."""
    return name.lower().endswith(_SUFFIX)


def foldcomp_entries(path: Path) -> Iterator[str]:
    """Yield the entries of a Foldcomp database in the order of its lookup table; ``""`` for a ``.fcz`` file.

    Raises:
        DataError: the package foldcomp is not installed.
        UnreadableError: the lookup table is missing or damaged.
    """
    if importlib.util.find_spec("foldcomp") is None:
        raise DataError(
            "Foldcomp files need the package foldcomp (GPL-3.0)", "install it: pip install 'esmgn[foldcomp]'"
        )
    if is_foldcomp(path.name):
        yield ""
        return
    lookup = path.with_name(path.name + ".lookup")
    if not lookup.is_file():
        raise UnreadableError(f"looks like a Foldcomp database, but {lookup.name} is missing")
    with lookup.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.split("\t")
            if len(fields) < 2:
                raise UnreadableError(f"{lookup.name}, line {number}: expected a number, a tab and a name")
            yield fields[1].rstrip("\n")


def foldcomp_pdb(path: Path, entry: str) -> bytes:
    """Decompress one entry to PDB text.

    Raises:
        UnreadableError: the entry cannot be decompressed, or foldcomp crashes or hangs on it.
    """
    try:
        text: bytes = call(_decompressed, path, entry)
    except ChildError as error:
        raise UnreadableError(f"foldcomp cannot read it: {error}") from error
    return text


def _decompressed(path: Path, entry: str) -> bytes:
    import foldcomp

    try:
        if not entry:
            _, text = foldcomp.decompress(path.read_bytes())
        else:
            with foldcomp.open(str(path), ids=[entry]) as database:
                _, text = database[0]
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableError(f"foldcomp cannot read it: {error}") from error
    return text.encode() if isinstance(text, str) else bytes(text)
