"""Names of proteins, derived from the names of their files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from esmgn_core.io.files import as_utf8, unpacked_name
from esmgn_core.io.formats import FORMATS, Formats

_NAMED_ONLY_SUFFIXES = (".mmtf", ".fcz")
_ASSEMBLY = re.compile(r"\.pdb\d{1,3}\Z")


def is_structure(name: str, formats: Formats = FORMATS) -> bool:
    """True if a file in a folder or archive has the ending of a structure, compressed or not.

    Includes ``.pdb1``, ``.pdb2`` and so on, the assemblies of the PDB.
    """
    inside = unpacked_name(name.lower())
    return inside.endswith(_suffixes(formats)) or _ASSEMBLY.search(inside) is not None


def _suffixes(formats: Formats) -> tuple[str, ...]:
    return tuple(suffix for known in formats.values() for suffix in known.suffixes)


def structure_name(path: str | os.PathLike[str], formats: Formats = FORMATS) -> str:
    """Return the file name without the endings of structures and compression.

    >>> structure_name(Path("models/AF-P00257-F1-model_v4.pdb.gz"))
    'AF-P00257-F1-model_v4'
    """
    name = os.fspath(path).rpartition("/")[2]  # faster than Path, for archives with millions of members
    inflated = unpacked_name(name)
    stem, dot, ending = inflated.rpartition(".")
    known = stem and dot + ending.lower() in _suffixes(formats) + _NAMED_ONLY_SUFFIXES
    return as_utf8(stem if known else inflated)


def unique_names(paths: Sequence[Path], formats: Formats = FORMATS) -> list[str]:
    """Return one name per path, unique if the paths are: the shortest of three that is unique.

    1. The file name without endings.
    2. The path below the folder common to all ``paths``, without endings.
    3. That path with endings (``1a8o.pdb`` beside ``1a8o.cif``).
    """
    if not paths:
        return []
    absolute = [path.absolute() for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    inside = [path.relative_to(root) for path in absolute]
    candidates = [
        (
            structure_name(path, formats),
            as_utf8(path.with_name(structure_name(path, formats)).as_posix()),
            as_utf8(path.as_posix()),
        )
        for path in inside
    ]
    level = [0] * len(paths)
    while True:  # a longer name may clash with another one, so repeat until no level changes
        names = [candidate[k] for candidate, k in zip(candidates, level, strict=True)]
        shared = {name for name, count in Counter(names).items() if count > 1}
        raised = [min(k + (name in shared), 2) for name, k in zip(names, level, strict=True)]
        if raised == level:
            return names
        level = raised
