"""Loops in store, looked up by where they lead."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from esmgn_datasets.made_up.backbone import Array
from esmgn_datasets.made_up.elements import ElementKind, end_pairs, place_elements
from esmgn_datasets.made_up.folds import FOLDS
from esmgn_datasets.made_up.loops import (
    ENTERING_PHI,
    LONGEST_LOOP,
    SHORTEST_LOOP,
    Loops,
    close_loops,
    draw_loops,
    gather,
    self_clashes,
)

_LEVER = 5.0
_RANDOM_LOOPS = 3072
_LENGTHS, _PAIRS, _TRIED = 3, 2, 32


class LoopLibrary:
    """Loops that leave an element of one kind, in store."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        self._ends = _landmarks(loops.ends())
        self._squares = (self._ends**2).sum(axis=1)

    def nearest(self, target: Array, count: int) -> Loops:
        """The ``count`` loops that end nearest to a frame [4, 4] as seen from residue 0."""
        distance = self._squares - 2.0 * (self._ends @ _landmarks(target))
        return self._loops.at(np.sort(np.argpartition(distance, count)[:count]))


@cache
def loop_libraries() -> dict[ElementKind, LoopLibrary]:
    """For each kind of element, loops that close gaps as they occur in the folds.

    Random loops are closed onto the gaps of a few proteins of every fold. Always the same ones,
    drawn from a fixed seed.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    gaps = _typical_gaps(rng)
    return {kind: _library_for(kind, np.stack(targets), rng) for kind, targets in gaps.items()}


def _library_for(kind: ElementKind, targets: Array, rng: np.random.Generator) -> LoopLibrary:
    at_random = LoopLibrary(_random_loops(kind, rng))
    tried = gather([at_random.nearest(target, _TRIED) for target in targets])
    loops, closed = close_loops(tried, targets.repeat(_TRIED, axis=0))
    return LoopLibrary(_without_clashes(loops.at(closed)))


def _random_loops(kind: ElementKind, rng: np.random.Generator) -> Loops:
    """Loops of all lengths whose last torsion may enter an element."""
    drawn = draw_loops(kind, _RANDOM_LOOPS, rng)
    lengths = range(SHORTEST_LOOP, LONGEST_LOOP + 1)
    loops = gather([drawn._replace(length=np.full(_RANDOM_LOOPS, length)) for length in lengths])
    entering = np.degrees(loops.torsions[np.arange(len(loops.length)), loops.length + 1, 0])
    return _without_clashes(loops.at((entering >= ENTERING_PHI[0]) & (entering <= ENTERING_PHI[1])))


def _typical_gaps(rng: np.random.Generator) -> dict[ElementKind, list[Array]]:
    gaps: dict[ElementKind, list[Array]] = {"H": [], "E": []}
    for fold in FOLDS.values():
        for length in np.linspace(fold.shortest, fold.longest, _LENGTHS):
            elements = place_elements(fold.design(int(length), rng), rng)
            for before, after in pairwise(elements):
                pairs = end_pairs(before, after)
                for i in np.argsort(rng.random(len(pairs)))[:_PAIRS]:
                    leave, enter = pairs[i]
                    gaps[before.kind].append(np.linalg.inv(before.frames[leave]) @ after.frames[enter])
    return gaps


def _without_clashes(loops: Loops) -> Loops:
    return loops.at(~self_clashes(loops, loops.atoms(np.eye(4))))


def _landmarks(frames: Array) -> Array:
    """Nine numbers of frames [..., 4, 4] whose squared differences measure how far frames are apart."""
    columns = frames[..., :3, [3, 0, 1]] * (1.0, _LEVER, _LEVER)
    return columns.reshape(*columns.shape[:-2], 9)
