"""Chains that a file does not tell apart by name: copies under one name, and proteins told apart by segment.

A chain name of a file may stand for several chains. TER records divide them, segment identifiers do (columns
73 to 76 of PDB text, ``label_asym_id`` of mmCIF), or only the repetition of their residues shows it. Residues
joined by a peptide bond are never divided by a segment identifier alone.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import dist

import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.files import UnreadableError
from esmgn_core.io.polymer import MAX_CA_CA, MAX_PEPTIDE_BOND
from esmgn_core.io.residues import ResidueClass, classify
from esmgn_core.io.table import changes

DROPPED = -1
"""Chain of an atom that is not read: the second of two alternates without labels."""

_PEPTIDE = (1.0, MAX_PEPTIDE_BOND)  # C-N in angstrom
_TRACE = (2.7, MAX_CA_CA)  # CA-CA in angstrom
_ONE_PLACE = 2.5  # angstrom; CA atoms of different residues are never so close
_FEW = 0.1  # share of such residues that two chains side by side may have in a poor model
_WRAP = 9000  # residue numbers that fall by more began anew
_BACKBONE = (b"N", b"CA", b"C")

Place = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Atoms:
    """What A atoms of one model say of their chain, in file order.

    Attributes:
        chain: chain name, bytes [A].
        part: int64 [A], number of TER records before it.
        segment: segment identifier, bytes [A].
        number: residue number with insertion code, bytes [A].
        residue: residue name, bytes [A].
        name: atom name, bytes [A].
        altloc: label of the alternate location, bytes [A], empty for none.
        position: float64 [A, 3], in angstrom.
        is_hetatm: bool [A].
    """

    chain: NDArray[np.bytes_]
    part: NDArray[np.int64]
    segment: NDArray[np.bytes_]
    number: NDArray[np.bytes_]
    residue: NDArray[np.bytes_]
    name: NDArray[np.bytes_]
    altloc: NDArray[np.bytes_]
    position: NDArray[np.float64]
    is_hetatm: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Division:
    """The chains that A atoms belong to.

    Attributes:
        chain: int64 [A], index into ``names``, or :data:`DROPPED`.
        names: chain names of the file, each as often as there are chains of that name.
        notes: what was divided or dropped, one short sentence each.
    """

    chain: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def divide(atoms: Atoms) -> Division:
    """Tell the chains of a model apart.

    Raises:
        UnreadableError: most of a chain is there twice at one place, as in models without MODEL records.
    """
    chain = np.zeros(len(atoms.chain), dtype=np.int64)
    names: list[str] = []
    counts = dict.fromkeys((*_REASONS, _ALTERNATES, _SAME_NUMBER), 0)
    _, first, group = np.unique(atoms.chain, return_index=True, return_inverse=True)
    for number in np.argsort(first).tolist():
        rows = np.flatnonzero(group == number)
        name = atoms.chain[rows[0]].decode("latin-1")
        divided = _Divided(_residues(atoms, rows), is_blank=not name)
        dropped = _alternates(divided, name)
        counts[_ALTERNATES] += divided.num_again
        counts[_SAME_NUMBER] += divided.num_same_number
        counts[_ALTERNATES] += sum(len(divided.copies[copy].residues) for copy in dropped)
        kept = [copy for copy in range(len(divided.copies)) if copy not in dropped]
        for copy in kept[1:]:
            counts[divided.copies[copy].reason] += 1
        of_copy = {copy: len(names) + place for place, copy in enumerate(kept)}
        names += _names(name, [divided.copies[copy].segment for copy in kept])
        for residue in divided.residues:
            chain[residue.rows] = of_copy.get(residue.copy, DROPPED)
    return Division(chain, tuple(names), tuple(f"{text}: {n}" for text, n in counts.items() if n))


_REPEATS = "chains found by residues that repeat under one chain name"
_SEGMENTS = "chains told apart by their segment identifiers alone"
_TER = "chains told apart by TER records alone"
_REASONS = (_TER, _SEGMENTS, _REPEATS)
_SAME_NUMBER = "residues that have the number of another residue of their chain"
_ALTERNATES = "residues given twice at one place, the first of which was read"


def _names(name: str, segments: Sequence[bytes]) -> list[str]:
    """The name once for each copy; segments in its place where it is blank and they are all different."""
    texts = [segment.decode("latin-1") for segment in segments]
    if not name and len(texts) > 1 and all(texts) and len(set(texts)) == len(texts):
        return texts
    return [name] * len(texts)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Chain names, all different: where several are the same, each has a number added.

    Blank names become the numbers themselves.

    >>> unique_names(["A", "B", "A"]), unique_names(["", ""])
    (('A-1', 'B', 'A-2'), ('1', '2'))
    """
    occurrences = Counter(names)
    if len(occurrences) == len(names):
        return tuple(names)
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        if occurrences[name] == 1:
            unique.append(name)
            continue
        candidate = name
        while candidate in occurrences or not candidate:
            counts[name] = counts.get(name, 0) + 1
            candidate = f"{name}-{counts[name]}" if name else str(counts[name])
        unique.append(candidate)
    return tuple(unique)


@dataclass(slots=True)
class _Residue:
    """One appearance of a residue in the file; ``copy`` is the chain it is put into."""

    rows: NDArray[np.int64]
    part: int
    segment: bytes
    number: bytes
    name: bytes
    is_candidate: bool
    is_trusted: bool
    is_labeled: bool
    labels: frozenset[bytes]
    place: dict[bytes, Place]
    copy: int = 0


@dataclass(slots=True)
class _Copy:
    """A chain: its residues by number, in order."""

    segment: bytes
    part: int
    reason: str
    residues: dict[bytes, _Residue] = field(default_factory=dict)
    last: _Residue | None = None

    def add(self, residue: _Residue) -> None:
        self.residues[residue.number] = self.last = residue


def _residues(atoms: Atoms, rows: NDArray[np.int64]) -> list[_Residue]:
    """The appearances of residues in the atoms of one chain name, in file order."""
    starts = changes(atoms.part[rows], atoms.number[rows], atoms.residue[rows])
    runs = np.split(rows, np.flatnonzero(starts)[1:])
    return [_residue(atoms, own) for run in runs for own in _without_repeats(atoms, run)]


def _without_repeats(atoms: Atoms, run: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """A run of atoms of one residue, divided so that no atom of one conformer is there twice."""
    keys = list(zip(atoms.name[run].tolist(), atoms.altloc[run].tolist(), strict=True))
    if len(set(keys)) == len(keys):
        yield run
        return
    atom_by_atom = any(before == after for before, after in itertools.pairwise(keys))
    seen: dict[object, int] = {}
    latest, numbers = 0, []
    for key in keys:
        count = seen[key] = seen.get(key, -1) + 1
        latest = count if atom_by_atom else max(latest, count)
        seen[key] = latest
        numbers.append(latest)
    which = np.array(numbers)
    for number in range(max(numbers) + 1):
        yield run[which == number]


def _residue(atoms: Atoms, rows: NDArray[np.int64]) -> _Residue:
    names = [name.strip() for name in atoms.name[rows].tolist()]
    labels = atoms.altloc[rows].tolist()
    place: dict[bytes, Place] = {}
    for name, row in zip(names, rows.tolist(), strict=True):
        if name in _BACKBONE and name not in place:
            x, y, z = atoms.position[row].tolist()
            place[name] = (x, y, z)
    first = rows[0]
    residue = atoms.residue[first]
    known = classify(residue.decode("latin-1").strip(), {})[0]
    possible = known in (ResidueClass.AMINO_ACID, ResidueClass.UNLISTED)
    return _Residue(
        rows=rows,
        part=int(atoms.part[first]),
        segment=atoms.segment[first],
        number=atoms.number[first],
        name=residue,
        is_candidate=possible and b"CA" in place,
        is_trusted=known is ResidueClass.AMINO_ACID and not atoms.is_hetatm[first],
        is_labeled=all(labels),
        labels=frozenset(labels),
        place=place,
    )


def _bonded(before: _Residue | None, after: _Residue) -> bool:
    """True if a peptide bond, or the distance of the CA atoms where N or C is missing, joins two residues."""
    if before is None:
        return False
    if b"C" in before.place and b"N" in after.place:
        low, high = _PEPTIDE
        return low < dist(before.place[b"C"], after.place[b"N"]) < high
    low, high = _TRACE
    return low < dist(before.place[b"CA"], after.place[b"CA"]) < high


class _Divided:
    """Residues of one chain name, put into copies one after another."""

    def __init__(self, residues: list[_Residue], *, is_blank: bool) -> None:
        self.residues = residues
        self.copies: list[_Copy] = []
        self._is_blank = is_blank
        self._candidates = self._of_protein()
        self._is_interleaved = self._find_interleaved()
        self._numbers_of_part: dict[int, set[bytes]] = {}
        for residue in self._candidates:
            self._numbers_of_part.setdefault(residue.part, set()).add(residue.number)
        self._current = 0
        self.num_again = 0
        self.num_same_number = 0
        for number, residue in enumerate(self._candidates):
            residue.copy = self._place(number)
            if residue.copy == DROPPED:
                continue
            copy = self.copies[residue.copy]
            self._current = residue.copy
            if residue.number not in copy.residues:
                copy.add(residue)
        if not self.copies:
            self.copies.append(_Copy(residues[0].segment, residues[0].part, _REPEATS))
        self._place_others()

    def _of_protein(self) -> list[_Residue]:
        """Residues that can be of a protein; what may be a ligand only where it is bonded."""
        possible = [residue for residue in self.residues if residue.is_candidate]
        bonds = [False, *map(_bonded, possible, possible[1:]), False]
        for number, residue in enumerate(possible):
            residue.is_candidate = residue.is_trusted or bonds[number] or bonds[number + 1]
        return [residue for residue in possible if residue.is_candidate]

    def _find_interleaved(self) -> bool:
        """True if residues of the copies take turns, and do not follow as whole chains."""
        numbers = [residue.number for residue in self._candidates if not residue.is_labeled]
        repeats = len(numbers) - len(set(numbers))
        turns = sum(a == b for a, b in itertools.pairwise(numbers))
        return 2 * turns > repeats > 0

    def _place(self, number: int) -> int:
        """The copy that candidate ``number`` belongs to."""
        residue = self._candidates[number]
        if not number:
            return self._begin(residue, _REPEATS)
        current = self._current
        alternative = self._alternative(residue)
        if alternative is not None:
            return alternative
        free = [k for k, copy in enumerate(self.copies) if residue.number not in copy.residues]
        if self._is_blank:  # TER alone divides chains without a name
            free = [k for k in free if self.copies[k].part == residue.part]
        bonded = [k for k in free if _bonded(self.copies[k].last, residue)]
        if bonded:
            return bonded[0]  # the first chain goes on after a stretch with alternates
        if any(self._is_again(copy, residue) for copy in self.copies):
            self.num_again += 1
            return DROPPED
        if self._goes_on(number, current):
            return self._repeated_number(number, current)
        return self._unbonded(number, current, free)

    def _unbonded(self, number: int, current: int, free: list[int]) -> int:
        """The copy of a candidate that no bond assigns to one; ``free`` have no residue of its number."""
        residue, copy = self._candidates[number], self.copies[current]
        if residue.part != copy.part:
            return self._after_ter(residue, current)
        if residue.segment != self._candidates[number - 1].segment:
            same = [k for k in free if self.copies[k].segment == residue.segment]
            return same[-1] if same else self._begin(residue, _SEGMENTS)
        free = [
            k for k in free if self.copies[k].segment == copy.segment and self.copies[k].part == copy.part
        ]
        if self._is_interleaved and free:
            return free[0]
        if current in free:
            return current
        return free[0] if free else self._begin_with_those_before(number, current)

    def _goes_on(self, number: int, current: int) -> bool:
        """True if bonds join the candidate to an earlier residue of its number: it is of the same chain.

        Numbers that begin anew, as those of more than 9,999 residues, divide a chain all the same.
        """
        residue, after = self._candidates[number], self._candidates[number]
        for before in reversed(self._candidates[:number]):
            joined = before.copy == current and before.part == residue.part and _bonded(before, after)
            if not joined or _integer(before) - _integer(after) > _WRAP:
                return False
            if before.number == residue.number:
                return True
            after = before
        return False

    def _repeated_number(self, number: int, current: int) -> int:
        """The chain that goes on with a residue number it has already.

        Raises:
            UnreadableError: number and name are those of another residue, with which gemmi would merge it.
        """
        residue = self._candidates[number]
        key = residue.number, residue.name
        before = (other for other in self._candidates[:number] if other.copy == current)
        if any((other.number, other.name) == key for other in before):
            place, name = (part.decode("latin-1").strip() for part in key)
            raise UnreadableError(
                f"residue {name} {place} is there several times in a chain whose residues are bonded: "
                "give them numbers or insertion codes of their own"
            )
        self.copies[current].last = residue
        self.num_same_number += 1
        return current

    def _alternative(self, residue: _Residue) -> int | None:
        """The copy in which this is another conformer of a residue, by its labels."""
        for number in reversed(range(len(self.copies))):
            other = self.copies[number].residues.get(residue.number)
            if other is None or other.part != residue.part:
                continue
            if other.name != residue.name and (residue.is_labeled or other.is_labeled):
                return number
            if residue.is_labeled and not residue.labels & other.labels:
                other.labels |= residue.labels
                return number
        return None

    def _is_again(self, copy: _Copy, residue: _Residue) -> bool:
        """True if the residue is in a chain already, at nearly the same place."""
        other = copy.residues.get(residue.number)
        if other is None or other.part != residue.part or other.segment != residue.segment:
            return False
        return dist(other.place[b"CA"], residue.place[b"CA"]) < _ONE_PLACE

    def _after_ter(self, residue: _Residue, current: int) -> int:
        """A part goes on with a chain, unless that is blank or has one of the part's residue numbers."""
        copy = self.copies[current]
        is_new = bool(copy.residues.keys() & self._numbers_of_part[residue.part])
        if is_new or self._is_blank or copy.segment != residue.segment:
            return self._begin(residue, _TER)
        copy.part = residue.part
        return current

    def _begin(self, residue: _Residue, reason: str) -> int:
        self.copies.append(_Copy(residue.segment, residue.part, reason))
        return len(self.copies) - 1

    def _begin_with_those_before(self, number: int, current: int) -> int:
        """A new copy at the first repeated residue, and at the residues before it that are joined to it."""
        start = number
        while start and self._candidates[start - 1].copy == current and self._follow(start - 1):
            start -= 1
        fresh = self._begin(self._candidates[number], _REPEATS)
        descends = start and _integer(self._candidates[start - 1]) > _integer(self._candidates[start])
        for residue in self._candidates[start:number] if descends else ():
            del self.copies[current].residues[residue.number]
            self.copies[fresh].add(residue)
            residue.copy = fresh
        return fresh

    def _follow(self, number: int) -> bool:
        before, after = self._candidates[number : number + 2]
        return _bonded(before, after) or _integer(before) + 1 == _integer(after)

    def _place_others(self) -> None:
        """Put what has no CA atom, and ligands and waters, with its residue or with the chain before it."""
        current = 0
        for residue in self.residues:
            if residue.is_candidate:
                current = max(residue.copy, 0)
                continue
            residue.copy = current
            for number in (current, *reversed(range(len(self.copies)))):
                other = self.copies[number].residues.get(residue.number)
                if other is not None and other.name == residue.name:
                    residue.copy = number
                    break


def _integer(residue: _Residue) -> int:
    digits = residue.number.strip().rstrip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    try:
        return int(digits)
    except ValueError:
        return -1


def _alternates(divided: _Divided, name: str) -> set[int]:
    """Copies that are alternates without labels: a few residues at the places of others.

    Raises:
        UnreadableError: such a copy has most residues of the chain.
    """
    found: set[int] = set()
    if 2 * divided.num_again > len(divided.copies[0].residues):
        raise _twice(divided.num_again, name)
    for number, copy in enumerate(divided.copies):
        if copy.reason != _REPEATS or not number:
            continue
        others = [other for k, other in enumerate(divided.copies) if k < number and k not in found]
        if not _at_one_place(copy, others):
            continue
        if 2 * len(copy.residues) > max(len(other.residues) for other in others):
            raise _twice(len(copy.residues), name)
        found.add(number)
    return found


def _twice(count: int, name: str) -> UnreadableError:
    where = f"chain {name}" if name else "the chain"
    return UnreadableError(
        f"{count} residues of {where} are there twice at one place: number the models (MODEL and ENDMDL "
        "records, pdbx_PDB_model_num), or label alternate locations"
    )


def _at_one_place(copy: _Copy, others: Sequence[_Copy]) -> bool:
    mine = np.array([residue.place[b"CA"] for residue in copy.residues.values()])
    theirs = np.array([residue.place[b"CA"] for other in others for residue in other.residues.values()])
    nearest = [float(np.sqrt(((theirs - one) ** 2).sum(1).min())) for one in mine]
    return sum(distance < _ONE_PLACE for distance in nearest) > _FEW * len(nearest)
