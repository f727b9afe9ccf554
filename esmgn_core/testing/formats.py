"""The claims about structure formats."""

from __future__ import annotations

import pickle

from esmgn_core.io import FORMATS, Format
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.examples import example_proteins


def check_format(claims: Claims, found: object) -> None:
    """Its endings are new, it does not claim PDB and mmCIF text, and it can be sent to other processes."""
    claims.hold(isinstance(found, Format), f"is of type {type(found).__name__}, expected Format")
    assert isinstance(found, Format)  # noqa: S101 - for the type checker
    claims.hold(bool(found.suffixes), "has no endings of file names")
    taken = {suffix for known in FORMATS.values() for suffix in known.suffixes}
    for suffix in found.suffixes:
        claims.hold(
            suffix.startswith(".") and suffix == suffix.lower(), f"ending '{suffix}' is not like '.abc'"
        )
        claims.hold(suffix not in taken, f"ending '{suffix}' is that of a format of core")
    protein = example_proteins(0)[0]
    for title, text in (("PDB", pdb_text(protein)), ("mmCIF", mmcif_text(protein))):
        claims.hold(not found.sniff(text.encode()), f"sniff claims {title} text")
    claims.hold(not found.sniff(b""), "sniff claims an empty file")
    try:
        pickle.dumps(found)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        claims.hold(False, f"sniff and read must be functions of a module: {error}")
