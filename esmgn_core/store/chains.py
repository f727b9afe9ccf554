"""Read lists of chains, named like ``1ABC-A``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from esmgn_core.errors import DataError
from esmgn_core.text import read_lines

_NAMES = (re.compile(r"(.+)[-_](\w+)"), re.compile(r"(.+)[-_](\w+-\d+)"))
"""Patterns of entry and chain; the second is for a copy of a chain, such as A-1."""


class ListedChain(NamedTuple):
    """A chain of an entry, and its name in the list."""

    chain: str
    name: str


ChainList = dict[str, list[ListedChain]]
"""Entry in lower case -> its chains. ``1ABC-A-1`` is chain A-1 of 1abc and chain 1 of 1abc-a."""


def read_chains(path: Path) -> ChainList:
    """Read a file with one name like ``1ABC-A`` or ``1ABC_A`` per line, as in the lists of DeepFRI.

    Further columns, separated by white space or commas, are ignored.

    Raises:
        DataError: the file cannot be read, or a line has no such name.
    """
    try:
        lines = list(read_lines(path))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    chains: dict[str, dict[ListedChain, None]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name = line.replace(",", " ").split()[0]
        found = [parts for form in _NAMES if (parts := form.fullmatch(name))]
        if not found:
            raise DataError(
                f"{path}, line {number}: expected an entry and a chain such as 1ABC-A, found '{name}'"
            )
        for parts in found:
            chains.setdefault(parts[1].lower(), {})[ListedChain(parts[2], name)] = None
    return {entry: list(listed) for entry, listed in chains.items()}
