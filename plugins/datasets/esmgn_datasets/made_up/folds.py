"""Fold architectures: which helices and strands, how long, where, and in which order.

Every architecture turns a wanted number of residues into slots in chain order. Places across a sheet
are counted in strands from its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from esmgn_datasets.made_up.elements import SHEET_TWIST, SPARE, STRAND_SPACING, ElementKind, Slot

LOOP, TAILS = 5, 4
"""Residues to expect in one loop, and in both ends of the chain together."""

_LAYER = 10.0
_HELIX_SPACING = 10.0
_BUNDLE_TWIST = 0.7
_TWO_FACES = 145
_BUNDLES = ((2,), (2, 1), (2, 2), (3, 2), (3, 3), (2, 3, 2), (3, 2, 3))
_PARALLEL_ORDERS = {
    3: ((0, 1, 2), (1, 0, 2)),
    4: ((2, 1, 0, 3), (1, 0, 2, 3)),
    5: ((2, 1, 0, 3, 4), (1, 0, 2, 3, 4)),
    6: ((2, 1, 0, 3, 4, 5),),
}


@dataclass(frozen=True, slots=True)
class Fold:
    """An architecture.

    Attributes:
        shortest: fewest residues it suits.
        longest: most residues it suits.
        design: the slots for a number of residues.
    """

    shortest: int
    longest: int
    design: Callable[[int, np.random.Generator], list[Slot]]


def helix_bundle(length: int, rng: np.random.Generator) -> list[Slot]:
    """Two to eight helices side by side, up and down in turn."""
    rows = _BUNDLES[max(0, min(int(length / 25 - 0.95 + 0.6 * rng.random()), len(_BUNDLES) - 1))]
    residues = _share(length, sum(rows))
    slots: list[Slot] = []
    for number, row in enumerate(rows):
        across = [(i - (row - 1) / 2) * _HELIX_SPACING for i in range(row)]
        # Rows as long as the first are shifted to lie in its grooves; shorter ones do by themselves.
        shift = _HELIX_SPACING / 2 if number % 2 and row == rows[0] else 0.0
        for x in reversed(across) if number % 2 else across:
            up = len(slots) % 2 == 0
            z = number * _HELIX_SPACING * float(np.sqrt(0.75))
            slots.append(_slot("H", residues, up, x + shift, z, _BUNDLE_TWIST * (x + shift)))
    return slots


def hairpin_and_helix(length: int, rng: np.random.Generator) -> list[Slot]:
    """A beta hairpin with a helix packed on it."""
    strand, helix = _shares(length, strands=2, helices=1)
    side = _sign(rng)
    return [*_meander(2, strand, side), _helix(0.0, helix, True, _sign(rng))]


def beta_meander(length: int, rng: np.random.Generator) -> list[Slot]:
    """Three to six strands, each beside the one before, antiparallel."""
    count = min(max(round(length / 10), 3), 6)
    return _meander(count, _share(length, count), _sign(rng))


def beta_sandwich(length: int, rng: np.random.Generator) -> list[Slot]:
    """Two sheets of three to five strands face to face, joined at one edge or strand by strand."""
    width = min(max(round(length / 25), 3), 5)
    strand = _share(length, 2 * width)
    if rng.random() < 0.5:
        order = [(i, 0) for i in range(width)] + [(i, 1) for i in reversed(range(width))]
    else:
        order = [(i, (i + layer) % 2) for i in range(width) for layer in (0, 1)]
    side, middle = _sign(rng), (width - 1) / 2
    strands = [_strand(side * (i - middle), strand, n % 2 == 0) for n, (i, _) in enumerate(order)]
    return [slot._replace(z=_LAYER * layer) for slot, (_, layer) in zip(strands, order, strict=True)]


def alpha_beta(length: int, rng: np.random.Generator) -> list[Slot]:
    """A parallel sheet of three to six strands, with a helix across it after every strand but the last."""
    count = min(max(round(length / 28), 3), 6)
    order = _pick(_PARALLEL_ORDERS[count], rng)
    strand, helix = _shares(length, strands=count, helices=count - 1)
    strands = [_strand(i - (count - 1) / 2, strand, True) for i in order]
    return _with_crossings(strands, [helix] * (count - 1))


def ferredoxin(length: int, rng: np.random.Generator) -> list[Slot]:
    """Strand, helix, strand, twice: an antiparallel sheet of four strands under two helices."""
    del rng
    strand, helix = _shares(length, strands=4, helices=2)
    places = [(-0.5, True), (1.5, True), (0.5, False), (-1.5, False)]
    return _with_crossings([_strand(x, strand, up) for x, up in places], [helix, 0, helix])


def beta_grasp(length: int, rng: np.random.Generator) -> list[Slot]:
    """Two hairpins that share a sheet, joined by a helix across it."""
    del rng
    strand, helix = _shares(length, strands=4, helices=1)
    places = [(-0.5, True), (-1.5, False), (1.5, False), (0.5, True)]
    return _with_crossings([_strand(x, strand, up) for x, up in places], [0, helix, 0])


def sheet_and_helices(length: int, rng: np.random.Generator) -> list[Slot]:
    """A beta meander of three to five strands covered by helices, in long proteins on both faces."""
    count = min(max(round(length / 28), 3), 5)
    width = 3 if count == 5 else 2
    faces = 2 if length > _TWO_FACES else 1
    strand, helix = _shares(length, strands=count, helices=width * faces)
    side, layer = _sign(rng), _sign(rng)
    # Both rows of helices run against the meander: before it towards its start, after it from its end.
    across = [side * (i - (width - 1) / 2) * _HELIX_SPACING / STRAND_SPACING for i in range(width)]
    before = [_helix(x, helix, (width - n) % 2 == 0, -layer) for n, x in enumerate(reversed(across))]
    after = [_helix(x, helix, (count + n) % 2 == 0, layer) for n, x in enumerate(reversed(across))]
    return [*(before if faces == 2 else []), *_meander(count, strand, side), *after]


FOLDS = {
    "helix_bundle": Fold(30, 200, helix_bundle),
    "hairpin_and_helix": Fold(30, 44, hairpin_and_helix),
    "beta_meander": Fold(30, 64, beta_meander),
    "beta_sandwich": Fold(68, 130, beta_sandwich),
    "alpha_beta": Fold(70, 200, alpha_beta),
    "ferredoxin": Fold(60, 115, ferredoxin),
    "beta_grasp": Fold(46, 80, beta_grasp),
    "sheet_and_helices": Fold(70, 200, sheet_and_helices),
}
"""The architectures by name."""


def _share(length: int, elements: int) -> int:
    """Residues of each of some elements of the same length."""
    return (length - TAILS - LOOP * (elements - 1)) // elements


def _shares(length: int, *, strands: int, helices: int) -> tuple[int, int]:
    """Residues of each strand and of each helix, such that both are about equally long in space."""
    residues = length - TAILS - LOOP * (strands + helices - 1)
    strand = max(3, round(residues / (strands + 2.3 * helices)))
    return strand, max(7, (residues - strands * strand) // helices)


def _slot(kind: ElementKind, residues: int, up: bool, x: float, z: float, turn: float) -> Slot:
    # An element loses half of its spare residues on average.
    return Slot(kind, residues + SPARE[kind], up, x, z, turn)


def _strand(place: float, residues: int, up: bool) -> Slot:
    return _slot("E", residues, up, place * STRAND_SPACING, 0.0, place * SHEET_TWIST)


def _helix(place: float, residues: int, up: bool, layer: int) -> Slot:
    return _slot("H", residues, up, place * STRAND_SPACING, layer * _LAYER, place * SHEET_TWIST)


def _meander(count: int, strand: int, side: int) -> list[Slot]:
    return [_strand(side * (i - (count - 1) / 2), strand, i % 2 == 0) for i in range(count)]


def _with_crossings(strands: Sequence[Slot], helices: Sequence[int]) -> list[Slot]:
    """Strands with a helix of some residues, or none, between any two.

    A helix lies on the side of the sheet that makes the crossing right-handed, as in nature.
    """
    middles: dict[int, list[float]] = {1: [], -1: []}
    layers = []
    for (before, after), helix in zip(pairwise(strands), helices, strict=True):
        layers.append((1 if after.x > before.x else -1) * (1 if before.up else -1))
        if helix:
            middles[layers[-1]].append((before.x + after.x) / 2)
    places = {layer: iter(_spread(middle)) for layer, middle in middles.items()}
    slots = [strands[0]]
    for (before, after), helix, layer in zip(pairwise(strands), helices, layers, strict=True):
        if helix:
            slots.append(_helix(next(places[layer]) / STRAND_SPACING, helix, not before.up, layer))
        slots.append(after)
    return slots


def _spread(places: Sequence[float]) -> list[float]:
    """Places across the sheet pushed apart until helices have room, in the same order."""
    spread = np.array(places)
    order = np.argsort(spread)
    for _ in range(50):
        for left, right in pairwise(order):
            lack = max(0.0, _HELIX_SPACING - (spread[right] - spread[left]))
            spread[left] -= lack / 2
            spread[right] += lack / 2
    return [float(place) for place in spread]


def _pick(choices: Sequence[tuple[int, ...]], rng: np.random.Generator) -> tuple[int, ...]:
    return choices[int(rng.random() * len(choices))]


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1
