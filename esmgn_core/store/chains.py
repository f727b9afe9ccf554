"""Lists of single chains, named like ``1ABC-A``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from esmgn_core.errors import DataError
from esmgn_core.text import read_lines

_NAMES = (re.compile(r"(.+)[-_](\w+)"), re.compile(r"(.+)[-_](\w+-\d+)"))
"""Entry and chain; the second form is of a copy of a chain, such as A-1."""


class ListedChain(NamedTuple):
    """A chain of an entry, and the name it is listed under."""

    chain: str
    name: str


ChainList = dict[str, list[ListedChain]]
"""Entry in lower case -> its chains. ``1ABC-A-1`` has two: chain A-1 of 1abc and chain 1 of 1abc-a."""


def read_chains(path: Path) -> ChainList:
    """The chains in a file with one name like ``1ABC-A`` or ``1ABC_A`` a line.

    Further columns, parted by white space or commas, are passed over. DeepFRI's lists have this form.

    Raises:
        DataError: the file cannot be read, or a line is no such name.
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
            raise DataError(f"{path}, line {number}: '{name}' is no entry and chain, such as 1ABC-A")
        for parts in found:
            chains.setdefault(parts[1].lower(), {})[ListedChain(parts[2], name)] = None
    return {entry: list(listed) for entry, listed in chains.items()}
