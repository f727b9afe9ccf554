"""What a residue name stands for: amino acid or not, and its letter among the twenty."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import IntEnum

import gemmi

from esmgn_core.alphabet import AMINO_ACIDS

UNKNOWN_LETTER = "X"

STANDARD_NAMES = frozenset(gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in AMINO_ACIDS)
"""Three-letter names of the twenty amino acids."""


class ResidueClass(IntEnum):
    """What gemmi's residue table says of a name."""

    UNLISTED = 0
    AMINO_ACID = 1
    NUCLEOTIDE = 2
    WATER = 3
    OTHER = 4


_PROTONATION_STATES = {
    "HID": "H", "HIE": "H", "HIP": "H", "HSD": "H", "HSE": "H", "HSP": "H",
    "ASH": "D", "GLH": "E", "LYN": "K", "CYX": "C", "CYM": "C",
}  # fmt: skip
"""Names that force fields give to standard residues; gemmi's table does not list them."""

_NON_STANDARD_LETTERS = {"U": "C", "O": "K"}
"""Selenocysteine and pyrrolysine have letters of their own; the parent is what the 20 types can say."""


def classify(name: str, parents: Mapping[str, str]) -> tuple[ResidueClass, str]:
    """Class and one-letter code of a residue name.

    A modified residue takes the letter of its parent (MSE: M, SEP: S, D-valine DVA: V, selenocysteine
    SEC: C), looked up in gemmi's table, then in ``parents``. X where there is no single parent among
    the twenty: UNK, ASX (Asp or Asn), GLX (Glu or Gln), names nobody lists.

    Args:
        name: residue name as in the file, in any case.
        parents: residue name -> name of its parent, as the file itself declares (MODRES records).
    """
    name = name.upper()
    residue_class, letter = _tabulated(name)
    parent = parents.get(name)
    if residue_class is ResidueClass.UNLISTED and parent is not None:
        return _tabulated(parent.upper())
    return residue_class, letter


@functools.cache
def _tabulated(name: str) -> tuple[ResidueClass, str]:
    if name in _PROTONATION_STATES:
        return ResidueClass.AMINO_ACID, _PROTONATION_STATES[name]
    entry = gemmi.find_tabulated_residue(name)
    if not entry.found():
        return ResidueClass.UNLISTED, UNKNOWN_LETTER
    if entry.is_amino_acid():
        letter = entry.one_letter_code.upper()
        letter = _NON_STANDARD_LETTERS.get(letter, letter)
        return ResidueClass.AMINO_ACID, letter if letter in AMINO_ACIDS else UNKNOWN_LETTER
    if entry.is_water():
        return ResidueClass.WATER, UNKNOWN_LETTER
    if entry.is_nucleic_acid():
        return ResidueClass.NUCLEOTIDE, UNKNOWN_LETTER
    return ResidueClass.OTHER, UNKNOWN_LETTER
