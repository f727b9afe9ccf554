"""Decide from header and file name if the B-factors of a file are pLDDT.

They are not if the header names an experimental method. Otherwise they are pLDDT if the file has one of:

- a local pLDDT metric (ModelCIF);
- a title as in AlphaFold DB and the ESM Atlas;
- the ``PARENT`` record of ESMFold and OpenFold;
- no header, and a file name of AlphaFold DB, AlphaFold 2, ColabFold, OpenFold or Chai-1.

The values of the B-factors are not used.
"""

from __future__ import annotations

import re

import gemmi
import numpy as np
from numpy.typing import NDArray

# Patterns begin with a newline, which is several times faster than ^.
_FIRST_ATOM = re.compile(rb"\n(?:ATOM|HETATM)")
_EXPERIMENT = re.compile(rb"\nEXPDTA(?!.*THEORETICAL)")
_CASP_FORMAT = re.compile(rb"\nPFRMAT")
_PARENT = re.compile(rb"\nPARENT\s")
_TITLE_RECORD = re.compile(rb"\nTITLE {5}(.*)")
_TITLE = re.compile(r"(?:ALPHAFOLD|COLABFOLD|ESMFOLD|OPENFOLD)\b.*\bPREDICTION\b", re.IGNORECASE)
_FILE_NAMES = (
    r"AF-\w+(?:-\d+)?-F\d+-model_v\d",  # AlphaFold DB
    r".*_(?:un)?relaxed_(?:rank_\d+_|.*model_\d)",  # ColabFold
    r"(?:un)?relaxed_(?:alphafold2_\w*)?rank_\d+_",
    r"unrelaxed_model_\d|relaxed_model_\d+_(?:pred_\d|ptm\b|ptm_|multimer)",  # AlphaFold 2
    r".*_model_\d+_(?:\w+_)?(?:un)?relaxed\.",  # OpenFold
    r"pred\.(?:model|rank)_?idx_\d|pred\.rank_\d",  # Chai-1
)
_FILE_NAME = re.compile("|".join(_FILE_NAMES))
_HAS_EVIDENCE = re.compile(rb"\n(?:EXPDTA|TITLE {5}|PFRMAT|_exptl\.method|_ma_qa_metric\.)")
_AMBIGUOUS_NAME = re.compile(r"ranked_\d+\.|relaxed_model_\d+\.|.*_ranked_\d+\.")


def pdb_header(text: bytes) -> bytes:
    """Return the records before the first atom of PDB text, each after a newline."""
    if text.startswith((b"ATOM", b"HETATM")):
        return b"\n"
    first_atom = _FIRST_ATOM.search(text)
    return b"\n" + (text[: first_atom.start()] if first_atom else text)


def pdb_has_plddt(header: bytes, file_name: str) -> bool:
    """True if PDB text with this header and file name has pLDDT as B-factors."""
    if _EXPERIMENT.search(header):
        return False
    if _PARENT.search(header):  # in a CASP submission the column may hold an error estimate instead
        return not _CASP_FORMAT.search(header)
    title = _TITLE_RECORD.search(header)
    if title:
        return bool(_TITLE.match(title[1].decode("latin-1")))
    return bool(_FILE_NAME.match(file_name))


def unread_plddt_note(text: bytes, file_name: str) -> str:
    """Return a note if AlphaFold 2, or another program, may have named the file; else empty."""
    if not _AMBIGUOUS_NAME.match(file_name) or _HAS_EVIDENCE.search(b"\n" + text):
        return ""
    return (
        "named like a model of AlphaFold 2, but other programs use this name too: B-factors were not read as "
        "pLDDT (rename it like relaxed_model_1_pred_0.pdb if they are)"
    )


def mmcif_has_plddt(block: gemmi.cif.Block, file_name: str) -> bool:
    """True if an mmCIF block of a file with this name has pLDDT as B-factors."""
    for method in block.find_values("_exptl.method"):
        if gemmi.cif.as_string(method) and "THEORETICAL" not in method.upper():
            return False
    metrics = block.find("_ma_qa_metric.", ["mode", "name", "type"])
    if len(metrics):
        return any(
            row.str(0).lower() == "local" and "plddt" in (row.str(1) + row.str(2)).lower() for row in metrics
        )
    return bool(_TITLE.match(block.find_value("_struct.title") or "")) or bool(_FILE_NAME.match(file_name))


def scale_plddt(b_factor: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Convert pLDDT, float32 [n], from scale 0-1 or 0-100 to 0-100.

    ``None`` if the values cannot be pLDDT: all zero, or out of range.
    """
    highest = float(b_factor.max())
    if not (0 < highest <= 100 and float(b_factor.min()) >= 0):
        return None
    return b_factor * np.float32(100) if highest <= 1 else b_factor
