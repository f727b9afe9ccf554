"""Claims about structure formats."""

from __future__ import annotations

import pickle

from esmgn_core.io import FORMATS, Format
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.examples import example_proteins


def check_format(claims: Claims, candidate: object) -> None:
    """A format has new endings, does not accept PDB and mmCIF text, and can be pickled."""
    claims.require(isinstance(candidate, Format), f"is of type {type(candidate).__name__}, expected Format")
    assert isinstance(candidate, Format)  # noqa: S101 - for the type checker
    claims.require(bool(candidate.suffixes), "has no endings of file names")
    taken = {suffix for known in FORMATS.values() for suffix in known.suffixes}
    for suffix in candidate.suffixes:
        claims.require(
            suffix.startswith(".") and suffix == suffix.lower(), f"ending '{suffix}' is not like '.abc'"
        )
        claims.require(suffix not in taken, f"ending '{suffix}' belongs to a format of the core")
    protein = example_proteins(0)[0]
    for title, text in (("PDB", pdb_text(protein)), ("mmCIF", mmcif_text(protein))):
        claims.require(not candidate.sniff(text.encode()), f"sniff accepts {title} text")
    claims.require(not candidate.sniff(b""), "sniff accepts an empty file")
    try:
        pickle.dumps(candidate)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        claims.require(False, f"sniff and read must be functions of a module: {error}")
