"""Lists of single chains, named like ``1ABC-A``."""

from __future__ import annotations

import re
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.text import read_lines

ChainList = dict[str, dict[str, str]]
"""Entry in lower case -> chain -> the name it is listed under."""

_NAME = re.compile(r"(.+)[-_](\w+)")


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
    chains: ChainList = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name = line.replace(",", " ").split()[0]
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise DataError(f"{path}, line {number}: '{name}' is no entry and chain, such as 1ABC-A")
        chains.setdefault(parts[1].lower(), {})[parts[2]] = name
    return chains
