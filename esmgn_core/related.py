"""Group related proteins: identical, fragments of one AlphaFold accession, or with similar chains.

Two chains are similar if they share a given part of the smaller one's 5-mers. Only chains with a common
8-mer (shorter for small parts) are compared, so that time and memory grow with the number of residues and not
with the number of pairs. Groups are joined by single linkage.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.splits import Shares, assign

SHARED = 0.5
"""Default share of the smaller chain's 5-mers that similar chains have in common."""
WORD = 5
"""Residues of a word; chains are compared by common words."""
MIN_WORDS = 8
"""Chains with fewer different 5-mers, such as peptides and tags, are not compared."""

_NUM_TYPES = len(AMINO_ACIDS)
_SEED = 8
_RANK_BITS = 26  # a seed (20^8 < 2^35) and a rank are packed into one int64
_WORD_BITS = 22  # a chain and a word (20^5 < 2^22) are packed into one int64
_CHUNK = 1 << 22  # residues whose words are computed together
_PART = 1 << 24  # seeds that are sorted together
_ALL_PAIRS = 16
"""If more chains have a seed, each is compared only with the largest and the next 15."""
_ACCESSION = re.compile(r"(?:.*[/:])?AF-([A-Z0-9]+)(?:-\d+)?-(?:F\d+|model)", re.IGNORECASE)

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """The C chains of P proteins, concatenated.

    Attributes:
        residue_type: uint8 [N], see :mod:`esmgn_core.alphabet`.
        ptr: int64 [C + 1], first residue of each chain.
        protein: int64 [C], protein of each chain, ascending.
    """

    residue_type: NDArray[np.uint8]
    ptr: _Ints
    protein: _Ints

    @classmethod
    def of(cls, proteins: Iterable[Any]) -> Self:
        """Collect the chains of proteins with ``residue_type`` and ``chain_index``, int64 [n] each."""
        types, ptr, owners, first = [np.zeros(0, np.uint8)], [0], [], 0
        for number, protein in enumerate(proteins):
            residues, chain = np.asarray(protein.residue_type), np.asarray(protein.chain_index)
            ends = [*(np.flatnonzero(np.diff(chain)) + 1).tolist(), len(chain)]
            types.append(residues.astype(np.uint8))
            ptr += [first + end for end in ends]
            owners += [number] * len(ends)
            first += len(chain)
        return cls(np.concatenate(types), np.array(ptr, dtype=np.int64), np.array(owners, dtype=np.int64))

    def take(self, proteins: _Ints) -> Self:
        """Select the chains of some proteins, int64 [K] ascending; proteins are renumbered."""
        kept = np.flatnonzero(np.isin(self.protein, proteins))
        sizes = np.diff(self.ptr)[kept]
        ptr = np.concatenate([[0], sizes.cumsum()])
        rows = np.arange(ptr[-1]) + np.repeat(self.ptr[kept] - ptr[:-1], sizes)
        owners = np.searchsorted(proteins, self.protein[kept])
        return type(self)(self.residue_type[rows], ptr, owners)

    @property
    def _number(self) -> int:
        return int(self.protein.max(initial=-1)) + 1

    def joined(self, other: Self) -> Self:
        """The chains of the proteins of both, those of ``other`` behind."""
        return type(self)(
            np.concatenate([self.residue_type, other.residue_type]),
            np.concatenate([self.ptr, other.ptr[1:] + self.ptr[-1]]),
            np.concatenate([self.protein, other.protein + self._number]),
        )

    def keys(self) -> list[bytes]:
        """A digest of the chains of each protein, equal for identical proteins."""
        data, found = self.residue_type.tobytes(), [blake2b(digest_size=16) for _ in range(self._number)]
        for first, end, protein in zip(self.ptr[:-1], self.ptr[1:], self.protein, strict=True):
            found[protein].update(data[first:end] + b"/")
        return [digest.digest() for digest in found]


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Names and chains of P proteins; each has at least one chain."""

    names: Sequence[str]
    chains: Chains


def related(names: Sequence[str], keys: Sequence[Any], chains: Chains, *, shared: float = SHARED) -> _Ints:
    """Compute the group of each protein, int64 [P], equal for related proteins.

    Two proteins are related if one of these holds, or if a third protein is related to both:

    - They have the same key, such as a hash of the sequence.
    - Their names have the same AlphaFold accession (``AF-ACCESSION-F1-...``).
    - Two of their chains are similar, see :func:`similar_chains`.

    Args:
        names: names of the P proteins.
        keys: equal for identical sequences.
        chains: chains of the proteins.
        shared: smallest share of 5-mers of similar chains; 0 to compare no 5-mers.
    """
    groups = Groups(len(names))
    groups.join_equal(keys)
    groups.join_equal([accession_of(name) for name in names])
    if shared > 0:
        one, other = similar_chains(chains, shared)
        groups.join(chains.protein[one], chains.protein[other])
    return groups.number


def related_between(one: Sequences, other: Sequences, *, shared: float = SHARED) -> list[tuple[int, int]]:
    """Find the proteins of ``one`` that are related to a protein of ``other``, see :func:`related`.

    Args:
        one: such as training proteins.
        other: such as test proteins.
        shared: smallest share of 5-mers of similar chains; 0 to compare no 5-mers.

    Returns:
        Indices of each such protein and of the first one of ``other`` that it is related to, possibly through
        others.
    """
    chains = one.chains.joined(other.chains)
    groups = related([*one.names, *other.names], chains.keys(), chains, shared=shared).tolist()
    number = len(one.names)
    first: dict[int, int] = {}
    for index, group in enumerate(groups[number:]):
        first.setdefault(group, index)
    return [(index, first[group]) for index, group in enumerate(groups[:number]) if group in first]


def split_proteins(
    names: Sequence[str], proteins: Sequence[Any], shares: Shares, *, shared: float = SHARED
) -> tuple[list[str], list[str]]:
    """Assign proteins to splits, related ones to the same, and describe for the user what was compared.

    Args:
        names: file names of the P proteins.
        proteins: P objects with ``sequence``, ``residue_type`` and ``chain_index``.
        shares: sizes of the splits.
        shared: smallest share of 5-mers of similar chains; 0 to compare no 5-mers.
    """
    if not (shares.valid or shares.test):
        return ["train"] * len(proteins), []
    keys = [protein.sequence for protein in proteins]
    groups = related(names, keys, Chains.of(proteins), shared=shared)
    splits = assign(groups.tolist(), keys, shares)
    return splits, [described(splits, groups, shares, shared)]


def divided(groups: Sequence[int], splits: Sequence[str]) -> list[tuple[int, int]]:
    """Find pairs of related proteins in different splits, one for each group and pair of splits.

    The two proteins may be related through others.
    """
    first: dict[int, dict[str, int]] = {}
    for index, (group, split) in enumerate(zip(groups, splits, strict=True)):
        first.setdefault(group, {}).setdefault(split, index)
    members = (list(by_split.values()) for by_split in first.values())
    return [(indices[0], other) for indices in members for other in indices[1:]]


def described(splits: Sequence[str], groups: _Ints, shares: Shares, shared: float) -> str:
    """Describe for the user how proteins were split and what was compared."""
    used = {"train": True, "valid": shares.valid > 0, "test": shares.test > 0}
    sizes = ", ".join(f"{splits.count(name):,} {name}" for name, is_used in used.items() if is_used)
    if used["valid"] and "valid" not in splits:
        sizes += " (for a validation set raise data.valid_fraction)"
    counts = np.unique(groups, return_counts=True)[1]
    return (
        f"splits made by the dataset: {sizes}; {len(counts):,} groups of related proteins, the largest of "
        f"{counts.max(initial=0):,}; {'; '.join(checked(shared))}"
    )


def checked(shared: float, *further: str) -> tuple[str, str]:
    """Describe for the user what :func:`related` compares, and what it does not.

    Args:
        shared: smallest share of 5-mers; 0 if they are not compared.
        further: other comparisons that were made, such as clusters.
    """
    compared = ["identical sequences", "fragments of one AlphaFold accession"]
    hint = "" if further else " (use esmgn data split with --identity or --clusters)"
    missing = [f"remote homology{hint}"]
    if shared > 0:
        compared.append(f"chains sharing at least {100 * shared:g} % of the smaller one's {WORD}-mers")
    else:
        missing.insert(0, f"{WORD}-mers")
    return f"checked: {', '.join([*compared, *further])}", f"not checked: {', '.join(missing)}"


def accession_of(name: str) -> str | None:
    """Find the accession in a file name of AlphaFold DB; ``None`` for other names.

    >>> accession_of("AF-Q8WZ42-F12-model_v4"), accession_of("1abc")
    ('Q8WZ42', None)
    """
    found = _ACCESSION.match(name)
    return found[1].upper() if found else None


class Groups:
    """Disjoint groups of the numbers 0 to n - 1 (union-find, vectorised).

    Attributes:
        number: int64 [n], the smallest member of each group.
    """

    def __init__(self, size: int) -> None:
        self.number: _Ints = np.arange(size)

    def join(self, one: _Ints, other: _Ints) -> None:
        """Join the groups of each pair."""
        number = self.number
        while len(one):
            first, second = number[one], number[other]
            differ = first != second
            one, other, first, second = one[differ], other[differ], first[differ], second[differ]
            # Larger roots point to smaller ones, so that there are no cycles; then paths are shortened. A
            # root that got several targets keeps the smallest, and the next round joins the others.
            np.minimum.at(number, np.maximum(first, second), np.minimum(first, second))
            while not np.array_equal(number, jumped := number[number]):
                number = jumped
        self.number = number

    def join_equal(self, keys: Sequence[Any]) -> None:
        """Join numbers with equal keys; ``None`` is not a key."""
        first: dict[Any, int] = {}
        pairs = [(first.setdefault(key, index), index) for index, key in enumerate(keys) if key is not None]
        self.join(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)


def similar_chains(chains: Chains, shared: float) -> tuple[_Ints, _Ints]:
    """Find pairs of similar chains, two int64 [K], that connect each group of similar chains.

    Two chains are similar if they have in common at least ``shared`` of the distinct 5-mers of the chain that
    has fewer. Chains that are connected through others may have no pair. 5-mers with an unknown residue are
    ignored. Chains with fewer than eight distinct 5-mers have no pairs.
    """
    first, chosen = _unique(chains)
    words = _WordSets.of(chains, chosen)
    large = np.flatnonzero(words.sizes >= MIN_WORDS)
    order = large[np.argsort(-words.sizes[large], kind="stable")]  # rank -> chain, the largest set first
    rank = np.full(len(chosen), -1)
    rank[order] = np.arange(len(order))
    groups, found = Groups(len(order)), [np.zeros((2, 0), dtype=np.int64)]
    for candidates in _candidates(chains, chosen, rank, groups, _seed_length(shared)):
        pairs = words.similar(order, candidates, shared)
        groups.join(*pairs)
        found.append(chosen[order[pairs]])
    one, other = np.concatenate(found, axis=1)
    is_large = np.zeros(len(first), dtype=np.bool_)
    is_large[chosen[large]] = True
    copies = np.flatnonzero((first != np.arange(len(first))) & is_large[first])
    return np.concatenate([one, first[copies]]), np.concatenate([other, copies])


def _unique(chains: Chains) -> tuple[_Ints, _Ints]:
    """Return the first chain with the sequence of each chain, and the chains with distinct sequences."""
    indices: dict[bytes, int] = {}
    data, ptr = chains.residue_type.tobytes(), chains.ptr.tolist()
    first = [
        indices.setdefault(blake2b(data[ptr[index] : ptr[index + 1]], digest_size=16).digest(), index)
        for index in range(len(ptr) - 1)
    ]
    return np.array(first, dtype=np.int64), np.array(list(indices.values()), dtype=np.int64)


def _seed_length(shared: float) -> int:
    """Length of a stretch that chains with this share of common 5-mers have in common.

    A substitution changes five 5-mers. If a share s is unchanged, substitutions are 5 / (1 - s) residues
    apart on average. The stretch between them is one residue shorter. One more is subtracted for the ends of
    the chain.
    """
    return max(WORD, min(_SEED, math.ceil(5 / max(1 - shared, 1e-9)) - 2))


def _words(chains: Chains, chosen: _Ints, length: int) -> Iterator[tuple[_Ints, _Ints]]:
    """Yield the words of the ``chosen`` chains in chunks: index of the chain, and the word as a number.

    A word of known residues is a number in base 20.
    """
    sizes = np.diff(chains.ptr)[chosen]
    ends = sizes.cumsum()
    start = 0
    while start < len(chosen):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        owner = np.repeat(np.arange(start, stop), sizes[start:stop])
        within = np.arange(len(owner)) - np.repeat(
            ends[start:stop] - sizes[start:stop] - done, sizes[start:stop]
        )
        types = chains.residue_type[np.repeat(chains.ptr[chosen[start:stop]], sizes[start:stop]) + within]
        count = max(len(types) - length + 1, 0)
        number, known = np.zeros(count, dtype=np.int64), owner[:count] == owner[len(owner) - count :]
        for offset in range(length):
            column = types[offset : offset + count]
            number = number * _NUM_TYPES + column
            known &= column < _NUM_TYPES
        yield owner[:count][known], number[known]
        start = stop


@dataclass(frozen=True, slots=True, eq=False)
class _WordSets:
    """The distinct 5-mers of each chain.

    Attributes:
        words: uint32 [W], sorted within each chain.
        ptr: int64 [U + 1], first word of each chain.
        sizes: int64 [U], number of words of each chain.
    """

    words: NDArray[np.uint32]
    ptr: _Ints
    sizes: _Ints

    @classmethod
    def of(cls, chains: Chains, chosen: _Ints) -> Self:
        parts, sizes = [np.zeros(0, np.uint32)], np.zeros(len(chosen), dtype=np.int64)
        for owner, number in _words(chains, chosen, WORD):
            packed = _distinct(owner << _WORD_BITS | number)
            parts.append((packed & (1 << _WORD_BITS) - 1).astype(np.uint32))
            sizes += np.bincount(packed >> _WORD_BITS, minlength=len(chosen))
        return cls(np.concatenate(parts), np.concatenate([[0], sizes.cumsum()]), sizes)

    def similar(self, order: _Ints, candidates: _Ints, shared: float) -> _Ints:
        """Select similar pairs of ``candidates``, ranks [2, K] sorted by row 0, the larger chain."""
        if not candidates.size:
            return candidates
        ptr, words = self.ptr.tolist(), self.words
        present = np.zeros(_NUM_TYPES**WORD, dtype=np.bool_)
        indices = order[candidates]
        starts = np.flatnonzero(np.diff(indices[0], prepend=-1)).tolist()
        smaller = indices[1].tolist()
        common = []
        for start, stop in zip(starts, [*starts[1:], len(smaller)], strict=True):
            larger = int(indices[0, start])
            own = words[ptr[larger] : ptr[larger + 1]]
            others = smaller[start:stop]
            present[own] = True  # one lookup table for all words; only the used entries are cleared
            hits = present[np.concatenate([words[ptr[other] : ptr[other + 1]] for other in others])]
            present[own] = False
            ends = np.concatenate([[0], self.sizes[others].cumsum()])
            common.append(np.add.reduceat(hits, ends[:-1], dtype=np.int64))
        # The tolerance is for products such as 0.07 * 100, which is above 7 in float64.
        return candidates[:, np.concatenate(common) >= shared * self.sizes[indices[1]] - 1e-9]


def _candidates(chains: Chains, chosen: _Ints, rank: _Ints, groups: Groups, length: int) -> Iterator[_Ints]:
    """Yield pairs of chains with a common seed in different groups: ranks [2, K], the smaller rank first.

    The caller joins ``groups`` between two arrays of pairs. Large families are joined through their largest
    member first, so that few pairs remain.
    """
    total = int(np.diff(chains.ptr)[chosen].sum())
    num_parts = -(-total // _PART)
    for part in range(num_parts):  # seeds are divided by their value modulo the number of parts
        seeds = _distinct(
            np.concatenate(
                [
                    (number << _RANK_BITS | rank[owner])[(number % num_parts == part) & (rank[owner] >= 0)]
                    for owner, number in _words(chains, chosen, length)
                ]
            )
        )
        seed, member = seeds >> _RANK_BITS, seeds & (1 << _RANK_BITS) - 1
        sizes = np.diff(np.flatnonzero(np.diff(seed, prepend=-1)), append=len(seed))
        is_shared = np.repeat(sizes > 1, sizes)
        member, sizes = member[is_shared], sizes[sizes > 1]
        first = np.repeat(sizes.cumsum() - sizes, sizes)
        yield _pairs(member[first], member, groups)
        number = groups.number[member]
        starts = sizes.cumsum() - sizes
        if len(starts):
            mixed = np.minimum.reduceat(number, starts) != np.maximum.reduceat(number, starts)
            member, sizes = member[np.repeat(mixed, sizes)], sizes[mixed]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        for distance in range(1, min(int(sizes.max(initial=1)), _ALL_PAIRS)):
            same = owner[:-distance] == owner[distance:]
            yield _pairs(member[:-distance][same], member[distance:][same], groups)


def _pairs(one: _Ints, other: _Ints, groups: Groups) -> _Ints:
    """Return the distinct pairs of members of different groups, sorted."""
    differ = groups.number[one] != groups.number[other]
    packed = _distinct(one[differ] << _RANK_BITS | other[differ])
    return np.stack([packed >> _RANK_BITS, packed & (1 << _RANK_BITS) - 1])


def _distinct(values: _Ints) -> _Ints:
    """Sort ``values`` in place and return the distinct ones; faster than ``np.unique``, which hashes."""
    values.sort()
    distinct: _Ints = values[np.diff(values, prepend=-1) != 0]
    return distinct
