"""Residue names of four letters in PDB text, told from chain names of two letters.

Molecular dynamics programs write such residue names in columns 18 to 21 (HISE, LYSH, NMET). Large entries
of the PDB write chain names of two letters in columns 21 and 22. What column 21 holds is decided for each
chain: a chain of two letters has three-letter names throughout, and its residues are not joined to those of
another chain.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.residues import STANDARD_NAMES, UNKNOWN_LETTER, ResidueClass, classify, name_of_letter

_LETTERS = 4
_MAX_BOND = 2.0  # C-N in angstrom
_MAX_TRACE = 4.2  # CA-CA in angstrom


@dataclass(frozen=True, slots=True)
class FourLetters:
    """Which of A atoms have a residue name of four letters.

    Attributes:
        is_four: bool [A].
        parent: bytes [A], three-letter name to read it as where ``is_four``.
        notes: what was guessed, one short sentence each.
    """

    is_four: NDArray[np.bool_]
    parent: NDArray[np.bytes_]
    notes: tuple[str, ...] = ()


def find_four_letters(
    residue: NDArray[np.bytes_],
    above: NDArray[np.bytes_],
    chain: NDArray[np.bytes_],
    part: NDArray[np.int64],
    number: NDArray[np.bytes_],
    name: NDArray[np.bytes_],
    position: NDArray[np.float64],
) -> FourLetters:
    """Tell residue names of four letters from chain names of two.

    Args:
        residue: bytes [A], columns 18 to 20.
        above: bytes [A], column 21.
        chain: bytes [A], column 22.
        part: int64 [A], number of TER records before the atom.
        number: bytes [A], residue number with insertion code.
        name: bytes [A], atom name without blanks.
        position: float64 [A, 3], in angstrom.
    """
    is_four = np.zeros(len(residue), dtype=np.bool_)
    parent = residue.copy()
    used = above != b" "
    if not used.any():
        return FourLetters(is_four, parent)
    unknown = 0
    for last in np.unique(chain[used]).tolist():
        rows = np.flatnonzero(chain == last)
        runs = _runs(rows, residue, above, part, number)
        joined = _joined(runs, above, name, position)
        for first in np.unique(above[rows]).tolist():
            own = [run for run in runs if above[run[0]] == first]
            names = [_text(residue[run[0]]) + _text(first) for run in own]
            if first == b" " or not _are_names(own, names, runs, residue, joined=first in joined):
                continue
            for run, whole in zip(own, names, strict=True):
                residue_class, letter = classify(whole, {})
                is_four[run] = True
                parent[run] = _parent(residue_class, letter)
                unknown += residue_class is ResidueClass.UNLISTED and bool((name[run] == b"CA").any())
    notes = (f"residues with an unknown name of four letters, read as X: {unknown}",) if unknown else ()
    return FourLetters(is_four, parent, notes)


def _runs(
    rows: NDArray[np.int64],
    residue: NDArray[np.bytes_],
    above: NDArray[np.bytes_],
    part: NDArray[np.int64],
    number: NDArray[np.bytes_],
) -> list[NDArray[np.int64]]:
    """The atoms of each residue, in file order."""
    starts = np.ones(len(rows), dtype=np.bool_)
    columns = (residue[rows], above[rows], part[rows], number[rows])
    starts[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.split(rows, np.flatnonzero(starts)[1:])


def _joined(
    runs: list[NDArray[np.int64]],
    above: NDArray[np.bytes_],
    name: NDArray[np.bytes_],
    position: NDArray[np.float64],
) -> set[bytes]:
    """What column 21 holds in residues that are bonded to one in which it holds something else."""
    found: set[bytes] = set()
    for before, after in itertools.pairwise(runs):
        if above[before[0]] != above[after[0]] and _are_bonded(before, after, name, position):
            found |= {above[before[0]], above[after[0]]}
    return found


def _are_bonded(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    name: NDArray[np.bytes_],
    position: NDArray[np.float64],
) -> bool:
    for first, second, reach in ((b"C", b"N", _MAX_BOND), (b"CA", b"CA", _MAX_TRACE)):
        here, there = before[name[before] == first], after[name[after] == second]
        if len(here) and len(there):
            return bool(np.linalg.norm(position[here[0]] - position[there[0]]) < reach)
    return False


def _are_names(
    own: list[NDArray[np.int64]],
    names: list[str],
    runs: list[NDArray[np.int64]],
    residue: NDArray[np.bytes_],
    *,
    joined: bool,
) -> bool:
    """True if column 21 of these residues is the fourth letter of their names."""
    if any(len(whole) < _LETTERS for whole in names):
        return False
    if joined:
        return True
    if any(classify(whole, {})[0] is ResidueClass.UNLISTED for whole in names):
        return False
    if len(own) < len(runs):  # the rest of the chain has another letter there, or none
        return True
    return any(_text(residue[run[0]]) not in STANDARD_NAMES for run in own)


def _parent(residue_class: ResidueClass, letter: str) -> bytes:
    if residue_class is ResidueClass.WATER:
        return b"HOH"
    return b"UNK" if letter == UNKNOWN_LETTER else name_of_letter(letter).encode()


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip().upper()
