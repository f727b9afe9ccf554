"""Groups of related proteins: identical, fragments of one AlphaFold accession, or with similar chains.

Chains are similar if the larger one has a given share of the 5-mers of the smaller one. Candidates are chains
with a common 8-mer (shorter for low shares), so that time and memory grow with the number of residues, not
with the number of pairs.
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
"""Default share of the smaller chain's 5-mers."""
WORD = 5
"""Residues of a word: chains are compared by the words they share."""
MIN_WORDS = 8
"""Chains with fewer different 5-mers, such as peptides and tags, are not compared."""

_NUM_TYPES = len(AMINO_ACIDS)
_SEED = 8
_RANK_BITS = 26
_WORD_BITS = 22
_CHUNK = 1 << 22  # residues whose words are made together
_PART = 1 << 24  # seeds that are sorted together
_ALL_PAIRS = 16
"""Of a seed in more chains than this, each chain is compared with the largest and the next 15 only."""
_ACCESSION = re.compile(r"(?:.*[/:])?AF-([A-Z0-9]+)(?:-\d+)?-(?:F\d+|model)", re.IGNORECASE)

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """The C chains of P proteins, laid end to end.

    Attributes:
        residue_type: uint8 [N], see :mod:`esmgn_core.alphabet`.
        ptr: int64 [C + 1], first residue of each chain.
        protein: int64 [C], the protein of each chain, ascending.
    """

    residue_type: NDArray[np.uint8]
    ptr: _Ints
    protein: _Ints

    @classmethod
    def of(cls, proteins: Iterable[Any]) -> Self:
        """Chains of proteins with ``residue_type`` and ``chain_index``, int64 [n] each."""
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
        """Chains of some proteins, int64 [K] ascending, which are numbered anew."""
        kept = np.flatnonzero(np.isin(self.protein, proteins))
        sizes = np.diff(self.ptr)[kept]
        ptr = np.concatenate([[0], sizes.cumsum()])
        place = np.arange(ptr[-1]) + np.repeat(self.ptr[kept] - ptr[:-1], sizes)
        owners = np.searchsorted(proteins, self.protein[kept])
        return type(self)(self.residue_type[place], ptr, owners)


def related(names: Sequence[str], keys: Sequence[Any], chains: Chains, *, shared: float = SHARED) -> _Ints:
    """Group of each protein, int64 [P]: numbers that are equal for related proteins.

    Proteins are related if they have the same key, such as a hash of the sequence; if their names are those
    of one AlphaFold accession (``AF-ACCESSION-F1-...``); if two of their chains are similar, see
    :func:`similar_chains`; or if a third protein is related to both.

    Args:
        names: of the P proteins.
        keys: equal for identical sequences.
        chains: of the proteins.
        shared: smallest share of 5-mers of similar chains; 0 compares no 5-mers.
    """
    groups = Groups(len(names))
    groups.join_equal(keys)
    groups.join_equal([accession_of(name) for name in names])
    if shared > 0:
        one, other = similar_chains(chains, shared)
        groups.join(chains.protein[one], chains.protein[other])
    return groups.number


def split_proteins(
    names: Sequence[str], proteins: Sequence[Any], shares: Shares, *, shared: float = SHARED
) -> tuple[list[str], list[str]]:
    """Split of each protein, related ones in one split, and notes for the user on what was compared.

    Args:
        names: of the files of the P proteins.
        proteins: P objects with ``sequence``, ``residue_type`` and ``chain_index``.
        shares: sizes of the splits.
        shared: smallest share of 5-mers of similar chains; 0 compares none.
    """
    if not (shares.valid or shares.test):
        return ["train"] * len(proteins), []
    keys = [protein.sequence for protein in proteins]
    groups = related(names, keys, Chains.of(proteins), shared=shared)
    splits = assign(groups.tolist(), keys, shares)
    return splits, [described(splits, groups, shares, shared)]


def divided(groups: Sequence[int], splits: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of related proteins of different splits: one for each group and pair of splits.

    The two may be related through others.
    """
    first: dict[int, dict[str, int]] = {}
    for place, (group, split) in enumerate(zip(groups, splits, strict=True)):
        first.setdefault(group, {}).setdefault(split, place)
    found = (list(by_split.values()) for by_split in first.values())
    return [(places[0], other) for places in found for other in places[1:]]


def described(splits: Sequence[str], groups: _Ints, shares: Shares, shared: float) -> str:
    """How proteins were split and what was compared, in a sentence for the user."""
    asked = {"train": True, "valid": shares.valid > 0, "test": shares.test > 0}
    sizes = ", ".join(f"{splits.count(name):,} {name}" for name, is_asked in asked.items() if is_asked)
    if asked["valid"] and "valid" not in splits:
        sizes += " (for a validation set raise data.valid_fraction)"
    counts = np.unique(groups, return_counts=True)[1]
    return (
        f"splits made by the dataset: {sizes}; {len(counts):,} groups of related proteins, the largest of "
        f"{counts.max(initial=0):,}; {'; '.join(checked(shared))}"
    )


def checked(shared: float, *further: str) -> tuple[str, str]:
    """What :func:`related` compares, and what it does not, for the user.

    Args:
        shared: smallest share of 5-mers; 0 if they are not compared.
        further: what else was compared, such as clusters.
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
    """The accession in a name of the AlphaFold database; ``None`` in other names.

    >>> accession_of("AF-Q8WZ42-F12-model_v4"), accession_of("1abc")
    ('Q8WZ42', None)
    """
    found = _ACCESSION.match(name)
    return found[1].upper() if found else None


class Groups:
    """Numbers 0 to n - 1 in groups that are joined pair by pair.

    Attributes:
        number: int64 [n], the smallest member of each one's group.
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
            np.minimum.at(number, np.maximum(first, second), np.minimum(first, second))
            while not np.array_equal(number, jumped := number[number]):
                number = jumped
        self.number = number

    def join_equal(self, keys: Sequence[Any]) -> None:
        """Join those with the same key; ``None`` is no key."""
        first: dict[Any, int] = {}
        pairs = [(first.setdefault(key, place), place) for place, key in enumerate(keys) if key is not None]
        self.join(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)


def similar_chains(chains: Chains, shared: float) -> tuple[_Ints, _Ints]:
    """Pairs of chains that join all similar ones: two int64 [K].

    Two chains are similar if the one with more different 5-mers has at least ``shared`` of those of the
    other. Not all pairs are listed: chains that are joined through others need no pair of their own. 5-mers
    with an unknown residue do not count; chains with fewer than eight different ones have no pairs.
    """
    first, chosen = _unique(chains)
    words = _WordSets.of(chains, chosen)
    large = np.flatnonzero(words.sizes >= MIN_WORDS)
    order = large[np.argsort(-words.sizes[large], kind="stable")]  # by rank: the largest set first
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
    """The first chain of the same sequence of each chain, and the chains that are their own."""
    places: dict[bytes, int] = {}
    data, ptr = chains.residue_type.tobytes(), chains.ptr.tolist()
    first = [
        places.setdefault(blake2b(data[ptr[place] : ptr[place + 1]], digest_size=16).digest(), place)
        for place in range(len(ptr) - 1)
    ]
    return np.array(first, dtype=np.int64), np.array(list(places.values()), dtype=np.int64)


def _seed_length(shared: float) -> int:
    """Length of a stretch that chains with this share of 5-mers have in common.

    A substitution changes five 5-mers. With a share s of them unchanged, substitutions are 5 / (1 - s)
    residues apart on average, and the longest stretch between them is one residue shorter; another one is
    taken off for the ends of the chain.
    """
    return max(WORD, min(_SEED, math.ceil(5 / max(1 - shared, 1e-9)) - 2))


def _words(chains: Chains, chosen: _Ints, length: int) -> Iterator[tuple[_Ints, _Ints]]:
    """Place among the ``chosen`` chains and number of each stretch of known residues, in chunks."""
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
        for place in range(length):
            column = types[place : place + count]
            number = number * _NUM_TYPES + column
            known &= column < _NUM_TYPES
        yield owner[:count][known], number[known]
        start = stop


@dataclass(frozen=True, slots=True, eq=False)
class _WordSets:
    """The different 5-mers of each chain.

    Attributes:
        words: uint32 [W], sorted within each chain.
        ptr: int64 [U + 1].
        sizes: int64 [U].
    """

    words: NDArray[np.uint32]
    ptr: _Ints
    sizes: _Ints

    @classmethod
    def of(cls, chains: Chains, chosen: _Ints) -> Self:
        parts, sizes = [np.zeros(0, np.uint32)], np.zeros(len(chosen), dtype=np.int64)
        for owner, number in _words(chains, chosen, WORD):
            packed = _different(owner << _WORD_BITS | number)
            parts.append((packed & (1 << _WORD_BITS) - 1).astype(np.uint32))
            sizes += np.bincount(packed >> _WORD_BITS, minlength=len(chosen))
        return cls(np.concatenate(parts), np.concatenate([[0], sizes.cumsum()]), sizes)

    def similar(self, order: _Ints, candidates: _Ints, shared: float) -> _Ints:
        """Those of the ``candidates``, ranks [2, K] sorted by the larger in row 0, that are similar."""
        if not candidates.size:
            return candidates
        ptr, words = self.ptr.tolist(), self.words
        present = np.zeros(_NUM_TYPES**WORD, dtype=np.bool_)
        places = order[candidates]
        starts = np.flatnonzero(np.diff(places[0], prepend=-1)).tolist()
        smaller = places[1].tolist()
        common = []
        for start, stop in zip(starts, [*starts[1:], len(smaller)], strict=True):
            larger = int(places[0, start])
            own = words[ptr[larger] : ptr[larger + 1]]
            others = smaller[start:stop]
            present[own] = True
            hits = present[np.concatenate([words[ptr[other] : ptr[other + 1]] for other in others])]
            present[own] = False
            ends = np.concatenate([[0], self.sizes[others].cumsum()])
            common.append(np.add.reduceat(hits, ends[:-1], dtype=np.int64))
        # The tolerance is for products such as 0.07 * 100, which is above 7 in float64.
        return candidates[:, np.concatenate(common) >= shared * self.sizes[places[1]] - 1e-9]


def _candidates(chains: Chains, chosen: _Ints, rank: _Ints, groups: Groups, length: int) -> Iterator[_Ints]:
    """Pairs of ranks [2, K], the smaller rank first, of chains in different groups with a common seed.

    ``groups`` is read anew for each array of pairs, so that large families are joined by their largest
    member first, and hardly any pairs are left for the rest.
    """
    total = int(np.diff(chains.ptr)[chosen].sum())
    num_parts = -(-total // _PART)
    for part in range(num_parts):
        seeds = _different(
            np.concatenate(
                [
                    (number << _RANK_BITS | rank[owner])[(number % num_parts == part) & (rank[owner] >= 0)]
                    for owner, number in _words(chains, chosen, length)
                ]
            )
        )
        seed, member = seeds >> _RANK_BITS, seeds & (1 << _RANK_BITS) - 1
        sizes = np.diff(np.flatnonzero(np.diff(seed, prepend=-1)), append=len(seed))
        several = np.repeat(sizes > 1, sizes)
        member, sizes = member[several], sizes[sizes > 1]
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
    """The different pairs of members of different groups, sorted."""
    differ = groups.number[one] != groups.number[other]
    packed = _different(one[differ] << _RANK_BITS | other[differ])
    return np.stack([packed >> _RANK_BITS, packed & (1 << _RANK_BITS) - 1])


def _different(values: _Ints) -> _Ints:
    """The different values, sorted; faster than ``np.unique``, which hashes integers."""
    values.sort()
    found: _Ints = values[np.diff(values, prepend=-1) != 0]
    return found
