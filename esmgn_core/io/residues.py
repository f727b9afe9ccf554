"""Classify residue names: amino acid or not, and the one-letter code."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import IntEnum

import gemmi

from esmgn_core.alphabet import AMINO_ACIDS

UNKNOWN_LETTER = "X"

STANDARD_NAMES = frozenset(gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in AMINO_ACIDS)
"""Three-letter names of the twenty amino acids."""


def name_of_letter(letter: str) -> str:
    """Return the three-letter name of one of the twenty amino acids."""
    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA)


class ResidueClass(IntEnum):
    """Class of a residue name in the residue table of gemmi."""

    UNLISTED = 0
    AMINO_ACID = 1
    NUCLEOTIDE = 2
    WATER = 3
    OTHER = 4


_FORCE_FIELD_NAMES = {
    "A": "ALAD",
    "C": "CYX CYM CYSH CYSS CYSX CYS1 CYS2 CYSD CYSF CYSG CYSP CYSL",
    "D": "ASH ASPH ASPP ASP1",
    "E": "GLH GLUH GLUP",
    "G": "GLYM",
    "H": "HID HIE HIP HSD HSE HSP HISA HISB HISD HISE HISH HISP HIS1 HIS2 HISN",
    "K": "LYN LSN LYP LYSH LYSN LYSP LYSR",
    "N": "ASN1 NLN",
    "P": "HYP",
    "R": "ARN ARGN ARGP",
    "S": "OLS S1P SERD",
    "T": "OLT T1P",
    "W": "TRPH TRPU",
    "Y": "Y1P TYRH TYRU TYRD",
    "F": "PHEH PHEU",
}
"""Letter -> names of protonation and binding states in GROMACS, Amber, CHARMM, OPLS and GLYCAM."""

_BY_NAME = {name: letter for letter, names in _FORCE_FIELD_NAMES.items() for name in names.split()}
_BY_NAME |= {name_of_letter(letter): letter for letter in AMINO_ACIDS}
_BY_NAME |= {"HIS": "H", "PGLU": "E", "MELE": "L", "MEVA": "V"}
_TERMINAL_OR_D = {f"{prefix}{name}": letter for prefix in "NCD" for name, letter in _BY_NAME.items()}
"""Force field names of N- and C-terminal residues (NMET, CSER, NHIE) and D-residues (DALA)."""

_AMINO_ACIDS = _TERMINAL_OR_D | _BY_NAME
_WATERS = frozenset({"TIP3", "TIP4", "TIP5", "SPCE", "TP3M"})

_NON_STANDARD_LETTERS = {"U": "C", "O": "K"}
"""Selenocysteine and pyrrolysine -> their parents, since their letters are not among the 20 types."""


def classify(name: str, parents: Mapping[str, str]) -> tuple[ResidueClass, str]:
    """Return class and one-letter code of a residue name.

    A modified residue has the letter of its parent (MSE: M, SEP: S, D-valine DVA: V, selenocysteine SEC: C),
    from the table of gemmi, then from ``parents``. The letter is X for names without a single parent:
    UNK, ASX (Asp or Asn), GLX (Glu or Gln), unlisted names.

    Args:
        name: residue name in any letter case.
        parents: residue name -> name of its parent, from the MODRES records of the file.
    """
    name = name.upper()
    residue_class, letter = _tabulated(name)
    parent = parents.get(name)
    if residue_class is ResidueClass.UNLISTED and parent is not None:
        return _tabulated(parent.upper())
    return residue_class, letter


@functools.cache
def _tabulated(name: str) -> tuple[ResidueClass, str]:
    if name in _AMINO_ACIDS:
        return ResidueClass.AMINO_ACID, _AMINO_ACIDS[name]
    if name in _WATERS:
        return ResidueClass.WATER, UNKNOWN_LETTER
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
