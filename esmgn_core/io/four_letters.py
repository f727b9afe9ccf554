"""Distinguish residue names of four letters from chain names of two letters in PDB text.

Molecular dynamics programs write residue names of four letters in columns 18 to 21 (HISE, LYSH, NMET). Large
entries of the PDB write chain names of two letters in columns 21 and 22. The meaning of column 21 is decided
per chain: in a chain named by two letters, all residue names have three letters, and no residue is bonded to
another chain.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.copies import Atoms
from esmgn_core.io.polymer import MAX_CA_CA, MAX_PEPTIDE_BOND
from esmgn_core.io.residues import STANDARD_NAMES, UNKNOWN_LETTER, ResidueClass, classify, name_of_letter
from esmgn_core.io.table import changes

_LETTERS = 4


@dataclass(frozen=True, slots=True)
class FourLetters:
    """Residue names of four letters of A atoms.

    Attributes:
        is_four: bool [A], True if the residue of the atom has such a name.
        parent: bytes [A], where ``is_four`` the three-letter name it is read as.
        notes: what was guessed, one short sentence each.
    """

    is_four: NDArray[np.bool_]
    parent: NDArray[np.bytes_]
    notes: tuple[str, ...] = ()


def find_four_letters(atoms: Atoms, column21: NDArray[np.bytes_]) -> FourLetters:
    """Distinguish residue names of four letters from chain names of two.

    Args:
        atoms: the atoms, with columns 18 to 20 as residue names and column 22 as chain names.
        column21: bytes [A], the characters of column 21.
    """
    is_four = np.zeros(len(column21), dtype=np.bool_)
    parent = atoms.residue.copy()
    unknown = 0
    for last in np.unique(atoms.chain[column21 != b" "]).tolist():
        rows = np.flatnonzero(atoms.chain == last)
        starts = changes(atoms.residue[rows], column21[rows], atoms.part[rows], atoms.number[rows])
        runs = np.split(rows, np.flatnonzero(starts)[1:])  # the atoms of each residue, in file order
        joined = _joined(runs, column21, atoms)
        for first in np.unique(column21[rows]).tolist():
            own = [run for run in runs if column21[run[0]] == first]
            names = [_text(atoms.residue[run[0]]) + _text(first) for run in own]
            if first == b" " or not _are_names(
                names, joined=first in joined, is_whole_chain=len(own) == len(runs)
            ):
                continue
            for run, whole in zip(own, names, strict=True):
                residue_class, letter = classify(whole, {})
                is_four[run] = True
                parent[run] = _parent(residue_class, letter)
                unknown += residue_class is ResidueClass.UNLISTED and b"CA" in atoms.name[run]
    notes = (f"residues with an unknown name of four letters, read as X: {unknown}",) if unknown else ()
    return FourLetters(is_four, parent, notes)


def _joined(runs: list[NDArray[np.int64]], column21: NDArray[np.bytes_], atoms: Atoms) -> set[bytes]:
    """Characters of column 21 in residues that are bonded to a residue with another character there."""
    found: set[bytes] = set()
    for before, after in itertools.pairwise(runs):
        if column21[before[0]] != column21[after[0]] and _are_bonded(before, after, atoms):
            found |= {column21[before[0]], column21[after[0]]}
    return found


def _are_bonded(before: NDArray[np.int64], after: NDArray[np.int64], atoms: Atoms) -> bool:
    for first, second, reach in ((b"C", b"N", MAX_PEPTIDE_BOND), (b"CA", b"CA", MAX_CA_CA)):
        start, end = before[atoms.name[before] == first], after[atoms.name[after] == second]
        if len(start) and len(end):
            return bool(np.linalg.norm(atoms.position[start[0]] - atoms.position[end[0]]) < reach)
    return False


def _are_names(names: list[str], *, joined: bool, is_whole_chain: bool) -> bool:
    """True if column 21 is the fourth letter of these names.

    Args:
        names: names of the residues with one letter in column 21, with that letter appended.
        joined: True if one of them is bonded to a residue with another letter in column 21.
        is_whole_chain: True if all residues of the chain have this letter in column 21.
    """
    if any(len(whole) < _LETTERS for whole in names):
        return False
    if joined:
        return True
    if any(classify(whole, {})[0] is ResidueClass.UNLISTED for whole in names):
        return False
    return not is_whole_chain or any(whole[:-1] not in STANDARD_NAMES for whole in names)


def _parent(residue_class: ResidueClass, letter: str) -> bytes:
    if residue_class is ResidueClass.WATER:
        return b"HOH"
    return b"UNK" if letter == UNKNOWN_LETTER else name_of_letter(letter).encode()


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip().upper()
