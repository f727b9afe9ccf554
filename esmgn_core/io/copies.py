"""Divide the atoms of one chain name into chains, where a file uses one name for several chains.

Such chains are distinguished by TER records, by segment identifiers (columns 73 to 76 of PDB text,
``label_asym_id`` of mmCIF), or only by residue numbers that repeat. A segment identifier alone never divides
residues joined by a peptide bond.
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
"""Chain index of atoms that are not read: the second of two alternates without labels."""

_PEPTIDE = (1.0, MAX_PEPTIDE_BOND)  # C-N in angstrom
_TRACE = (2.7, MAX_CA_CA)  # CA-CA in angstrom
_SAME_POSITION = 2.5  # angstrom; CA atoms of different residues are never so close
_MAX_OVERLAP = 0.1  # share of such residues that two adjacent chains of a poor model may have
_WRAP = 9000  # if residue numbers fall by more, the numbering restarted
_BACKBONE = (b"N", b"CA", b"C")

Position = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Atoms:
    """Columns of the A atoms of one model, in file order.

    Attributes:
        chain: chain name, bytes [A].
        part: int64 [A], number of TER records before the atom.
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
    """The chain of each of A atoms.

    Attributes:
        chain: int64 [A], index into ``names``, or :data:`DROPPED`.
        names: name of each chain in the file; not unique.
        notes: what was divided or dropped, one short sentence each.
    """

    chain: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def divide(atoms: Atoms) -> Division:
    """Assign each atom of a model to a chain.

    Raises:
        UnreadableError: most residues of a chain occur twice at one position, as in models without MODEL
            records, or a residue number repeats in a bonded chain.
    """
    chain = np.zeros(len(atoms.chain), dtype=np.int64)
    names: list[str] = []
    counts = dict.fromkeys((*_REASONS, _ALTERNATES, _SAME_NUMBER), 0)
    _, first, group = np.unique(atoms.chain, return_index=True, return_inverse=True)
    for number in np.argsort(first).tolist():  # chain names in file order
        rows = np.flatnonzero(group == number)
        name = atoms.chain[rows[0]].decode("latin-1")
        divider = _ChainDivider(_residues(atoms, rows), is_blank=not name)
        dropped = _unlabeled_alternates(divider, name)
        counts[_ALTERNATES] += divider.num_alternates
        counts[_SAME_NUMBER] += divider.num_same_number
        counts[_ALTERNATES] += sum(len(divider.copies[copy].residues) for copy in dropped)
        kept = [copy for copy in range(len(divider.copies)) if copy not in dropped]
        for copy in kept[1:]:
            counts[divider.copies[copy].reason] += 1
        chain_of_copy = {copy: len(names) + index for index, copy in enumerate(kept)}
        names += _names(name, [divider.copies[copy].segment for copy in kept])
        for residue in divider.residues:
            chain[residue.rows] = chain_of_copy.get(residue.copy, DROPPED)
    return Division(chain, tuple(names), tuple(f"{text}: {n}" for text, n in counts.items() if n))


_REPEATS = "chains found by residues that repeat under one chain name"
_SEGMENTS = "chains distinguished by segment identifiers alone"
_TER = "chains distinguished by TER records alone"
_REASONS = (_TER, _SEGMENTS, _REPEATS)
_SAME_NUMBER = "residues that have the number of another residue of their chain"
_ALTERNATES = "residues given twice at one position, the first of which was read"


def _names(name: str, segments: Sequence[bytes]) -> list[str]:
    """Return the name for each copy, or the segments if the name is blank and the segments are unique."""
    texts = [segment.decode("latin-1") for segment in segments]
    if not name and len(texts) > 1 and all(texts) and len(set(texts)) == len(texts):
        return texts
    return [name] * len(texts)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Make chain names unique: equal names get a number each; blank names become numbers.

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
    """One occurrence of a residue in the file.

    Attributes:
        rows: its atoms.
        part: number of TER records before it.
        segment: segment identifier.
        number: residue number with insertion code.
        name: residue name.
        is_candidate: True if it may be a protein residue.
        is_trusted: True for an amino acid in ATOM records.
        is_labeled: True if all atoms have an altloc label.
        labels: the altloc labels.
        position: backbone atom -> coordinates.
        copy: the chain it is assigned to.
    """

    rows: NDArray[np.int64]
    part: int
    segment: bytes
    number: bytes
    name: bytes
    is_candidate: bool
    is_trusted: bool
    is_labeled: bool
    labels: frozenset[bytes]
    position: dict[bytes, Position]
    copy: int = 0


@dataclass(slots=True)
class _Copy:
    """A chain: its residues by number, in order; ``reason`` is why it was divided from the chain before."""

    segment: bytes
    part: int
    reason: str
    residues: dict[bytes, _Residue] = field(default_factory=dict)
    last: _Residue | None = None

    def add(self, residue: _Residue) -> None:
        self.residues[residue.number] = self.last = residue


def _residues(atoms: Atoms, rows: NDArray[np.int64]) -> list[_Residue]:
    """List the occurrences of residues in the atoms of one chain name, in file order."""
    starts = changes(atoms.part[rows], atoms.number[rows], atoms.residue[rows])
    runs = np.split(rows, np.flatnonzero(starts)[1:])
    return [_residue(atoms, own) for run in runs for own in _without_repeats(atoms, run)]


def _without_repeats(atoms: Atoms, run: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Divide the atoms of one residue so that no atom name of one conformer occurs twice.

    Repeated atoms belong to further copies of the residue. They follow atom by atom (N N CA CA) or copy by
    copy (N CA N CA). In the second case an atom that occurs only once stays with the copy before it.
    """
    keys = list(zip(atoms.name[run].tolist(), atoms.altloc[run].tolist(), strict=True))
    if len(set(keys)) == len(keys):
        yield run
        return
    atom_by_atom = any(before == after for before, after in itertools.pairwise(keys))
    last_copy: dict[object, int] = {}
    current, copies = 0, []
    for key in keys:
        count = last_copy.get(key, -1) + 1
        current = count if atom_by_atom else max(current, count)
        last_copy[key] = current
        copies.append(current)
    for copy in range(max(copies) + 1):
        yield run[np.array(copies) == copy]


def _residue(atoms: Atoms, rows: NDArray[np.int64]) -> _Residue:
    names = [name.strip() for name in atoms.name[rows].tolist()]
    labels = atoms.altloc[rows].tolist()
    position: dict[bytes, Position] = {}
    for name, row in zip(names, rows.tolist(), strict=True):
        if name in _BACKBONE and name not in position:
            x, y, z = atoms.position[row].tolist()
            position[name] = (x, y, z)
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
        is_candidate=possible and b"CA" in position,
        is_trusted=known is ResidueClass.AMINO_ACID and not atoms.is_hetatm[first],
        is_labeled=all(labels),
        labels=frozenset(labels),
        position=position,
    )


def _bonded(before: _Residue | None, after: _Residue) -> bool:
    """True if two residues are at the distance of a peptide bond; by CA atoms if N or C is missing."""
    if before is None:
        return False
    if b"C" in before.position and b"N" in after.position:
        low, high = _PEPTIDE
        return low < dist(before.position[b"C"], after.position[b"N"]) < high
    low, high = _TRACE
    return low < dist(before.position[b"CA"], after.position[b"CA"]) < high


class _ChainDivider:
    """Assigns the residues of one chain name to copies of the chain, in file order.

    Attributes:
        residues: all residues of the chain name.
        copies: the chains they are divided into.
        num_alternates: residues that were dropped as alternates without labels.
        num_same_number: residues that share the number of another residue of their chain.
    """

    def __init__(self, residues: list[_Residue], *, is_blank: bool) -> None:
        self.residues = residues
        self.copies: list[_Copy] = []
        self._is_blank = is_blank
        self._candidates = self._find_candidates()
        self._is_interleaved = self._find_interleaved()
        self._numbers_of_part: dict[int, set[bytes]] = {}
        for residue in self._candidates:
            self._numbers_of_part.setdefault(residue.part, set()).add(residue.number)
        self._current = 0
        self.num_alternates = 0
        self.num_same_number = 0
        for number, residue in enumerate(self._candidates):
            residue.copy = self._assign(number)
            if residue.copy == DROPPED:
                continue
            copy = self.copies[residue.copy]
            self._current = residue.copy
            if residue.number not in copy.residues:
                copy.add(residue)
        if not self.copies:
            self.copies.append(_Copy(residues[0].segment, residues[0].part, _REPEATS))
        self._assign_others()

    def _find_candidates(self) -> list[_Residue]:
        """Select possible protein residues. Residues that may be ligands must be bonded to another one."""
        possible = [residue for residue in self.residues if residue.is_candidate]
        bonds = [False, *map(_bonded, possible, possible[1:]), False]
        for number, residue in enumerate(possible):
            residue.is_candidate = residue.is_trusted or bonds[number] or bonds[number + 1]
        return [residue for residue in possible if residue.is_candidate]

    def _find_interleaved(self) -> bool:
        """True if the residues of the copies alternate (1 1 2 2), instead of whole chains (1 2 1 2)."""
        numbers = [residue.number for residue in self._candidates if not residue.is_labeled]
        repeats = len(numbers) - len(set(numbers))
        turns = sum(a == b for a, b in itertools.pairwise(numbers))
        return 2 * turns > repeats > 0

    def _assign(self, number: int) -> int:
        """Return the copy that candidate ``number`` belongs to, by the strongest evidence first.

        In this order: a labelled alternative of a residue, a peptide bond, a position that a residue with the
        same number has already (dropped), a bonded chain whose numbers repeat, then TER records, segments and
        repeated numbers.
        """
        residue = self._candidates[number]
        if not number:
            return self._begin(residue, _REPEATS)
        current = self._current
        alternative = self._find_alternative(residue)
        if alternative is not None:
            return alternative
        free = [k for k, copy in enumerate(self.copies) if residue.number not in copy.residues]
        if self._is_blank:  # TER divides chains without a name, even if numbers do not repeat
            free = [k for k in free if self.copies[k].part == residue.part]
        bonded = [k for k in free if _bonded(self.copies[k].last, residue)]
        if bonded:
            return bonded[0]  # the first chain continues after a stretch with alternates
        if any(self._is_alternate(copy, residue) for copy in self.copies):
            self.num_alternates += 1
            return DROPPED
        if self._continues_chain(number, current):
            return self._add_repeated_number(number, current)
        return self._assign_unbonded(number, current, free)

    def _assign_unbonded(self, number: int, current: int, free: list[int]) -> int:
        """Return the copy of a candidate without a bond; ``free`` copies have no residue of its number."""
        residue, copy = self._candidates[number], self.copies[current]
        if residue.part != copy.part:
            return self._assign_after_ter(residue, current)
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
        return free[0] if free else self._begin_repeat(number, current)

    def _continues_chain(self, number: int, current: int) -> bool:
        """True if an unbroken series of bonds joins the candidate to an earlier residue of its number.

        The candidate then belongs to the same chain. Numbering that restarts, as after 9,999 residues,
        divides a chain all the same.
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

    def _add_repeated_number(self, number: int, current: int) -> int:
        """Add a residue to a chain that has its number already.

        Raises:
            UnreadableError: another residue has the same number and name; gemmi would merge them.
        """
        residue = self._candidates[number]
        key = residue.number, residue.name
        before = (other for other in self._candidates[:number] if other.copy == current)
        if any((other.number, other.name) == key for other in before):
            residue_number, name = (part.decode("latin-1").strip() for part in key)
            raise UnreadableError(
                f"residue {name} {residue_number} occurs several times in a chain whose residues are bonded: "
                "give each a unique number or insertion code"
            )
        self.copies[current].last = residue
        self.num_same_number += 1
        return current

    def _find_alternative(self, residue: _Residue) -> int | None:
        """Find the copy with a residue of which this is another conformer, by altloc labels."""
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

    def _is_alternate(self, copy: _Copy, residue: _Residue) -> bool:
        """True if the chain has this residue already, at nearly the same position."""
        other = copy.residues.get(residue.number)
        if other is None or other.part != residue.part or other.segment != residue.segment:
            return False
        return dist(other.position[b"CA"], residue.position[b"CA"]) < _SAME_POSITION

    def _assign_after_ter(self, residue: _Residue, current: int) -> int:
        """Continue the chain after TER, unless it is blank or has a residue number of the part after TER."""
        copy = self.copies[current]
        is_new = bool(copy.residues.keys() & self._numbers_of_part[residue.part])
        if is_new or self._is_blank or copy.segment != residue.segment:
            return self._begin(residue, _TER)
        copy.part = residue.part
        return current

    def _begin(self, residue: _Residue, reason: str) -> int:
        self.copies.append(_Copy(residue.segment, residue.part, reason))
        return len(self.copies) - 1

    def _begin_repeat(self, number: int, current: int) -> int:
        """Begin a new copy at the first repeated residue.

        The residues directly before it move to the new copy if they join it and their numbers begin below the
        residue before them: the copy then begins with residues that the first chain lacks.
        """
        start = number
        while start and self._candidates[start - 1].copy == current and self._follow(start - 1):
            start -= 1
        new = self._begin(self._candidates[number], _REPEATS)
        descends = start and _integer(self._candidates[start - 1]) > _integer(self._candidates[start])
        for residue in self._candidates[start:number] if descends else ():
            del self.copies[current].residues[residue.number]
            self.copies[new].add(residue)
            residue.copy = new
        return new

    def _follow(self, number: int) -> bool:
        before, after = self._candidates[number : number + 2]
        return _bonded(before, after) or _integer(before) + 1 == _integer(after)

    def _assign_others(self) -> None:
        """Assign residues without CA, ligands and waters to the copy with that residue, or the last chain."""
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


def _unlabeled_alternates(divider: _ChainDivider, name: str) -> set[int]:
    """Find copies that are alternates without labels: a few residues at the positions of others.

    Raises:
        UnreadableError: such a copy has most residues of the chain.
    """
    alternates: set[int] = set()
    if 2 * divider.num_alternates > len(divider.copies[0].residues):
        raise _duplicate_error(divider.num_alternates, name)
    for number, copy in enumerate(divider.copies):
        if copy.reason != _REPEATS or not number:
            continue
        others = [other for k, other in enumerate(divider.copies) if k < number and k not in alternates]
        if not _overlaps(copy, others):
            continue
        if 2 * len(copy.residues) > max(len(other.residues) for other in others):
            raise _duplicate_error(len(copy.residues), name)
        alternates.add(number)
    return alternates


def _duplicate_error(count: int, name: str) -> UnreadableError:
    where = f"chain {name}" if name else "the chain"
    return UnreadableError(
        f"{count} residues of {where} occur twice at one position: number the models (MODEL and ENDMDL "
        "records, pdbx_PDB_model_num), or label alternate locations"
    )


def _overlaps(copy: _Copy, others: Sequence[_Copy]) -> bool:
    """True if more CA atoms of the copy coincide with those of the others than in adjacent chains."""
    own = np.array([residue.position[b"CA"] for residue in copy.residues.values()])
    known = np.array([residue.position[b"CA"] for other in others for residue in other.residues.values()])
    nearest = [float(np.sqrt(((known - ca) ** 2).sum(1).min())) for ca in own]
    return sum(distance < _SAME_POSITION for distance in nearest) > _MAX_OVERLAP * len(nearest)
