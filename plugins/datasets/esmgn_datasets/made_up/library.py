"""Loops in store, looked up by where they lead."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np

from esmgn_datasets.made_up.backbone import Array, Frames, chain_frames, stack_frames
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
    loop_atoms,
    self_clashes,
)

_LEVER = 5.0
_RANDOM_LOOPS = 3072
_LENGTHS, _PAIRS, _TRIED = 3, 2, 32


class LoopLibrary:
    """Loops that leave an element of one kind, in store."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        frames = chain_frames(loops.phi, loops.psi)
        self._ends = _landmarks(frames.at(np.arange(len(loops)), loops.length + 1))
        self._squares = (self._ends**2).sum(axis=1)

    def nearest(self, target: Frames, count: int) -> Loops:
        """The ``count`` loops that end nearest to one target frame, as seen from residue 0."""
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
    return {kind: _library_for(kind, stack_frames(targets), rng) for kind, targets in gaps.items()}


def _library_for(kind: ElementKind, targets: Frames, rng: np.random.Generator) -> LoopLibrary:
    at_random = LoopLibrary(_random_loops(kind, rng))
    gap = np.repeat(np.arange(len(targets.origin)), _TRIED)
    tried = gather([at_random.nearest(targets.at(i), _TRIED) for i in range(len(targets.origin))])
    loops, closed = close_loops(tried, targets.at(gap))
    return LoopLibrary(_without_clashes(loops.at(closed)))


def _random_loops(kind: ElementKind, rng: np.random.Generator) -> Loops:
    """Loops of all lengths whose last torsion may enter an element."""
    drawn = draw_loops(kind, _RANDOM_LOOPS, rng)
    loops = gather(
        [replace(drawn, length=drawn.length * 0 + n) for n in range(SHORTEST_LOOP, LONGEST_LOOP + 1)]
    )
    entering = np.degrees(loops.phi[np.arange(len(loops)), loops.length + 1])
    return _without_clashes(loops.at((entering >= ENTERING_PHI[0]) & (entering <= ENTERING_PHI[1])))


def _typical_gaps(rng: np.random.Generator) -> dict[ElementKind, list[Frames]]:
    gaps: dict[ElementKind, list[Frames]] = {"H": [], "E": []}
    for fold in FOLDS.values():
        for length in np.linspace(fold.shortest, fold.longest, _LENGTHS):
            elements = place_elements(fold.design(int(length), rng), rng)
            for before, after in pairwise(elements):
                pairs = end_pairs(before, after)
                for i in np.argsort(rng.random(len(pairs)))[:_PAIRS]:
                    leave, enter = pairs[i]
                    gaps[before.kind].append(before.frames.at(leave).inverse().then(after.frames.at(enter)))
    return gaps


def _without_clashes(loops: Loops) -> Loops:
    origin = Frames(np.tile(np.eye(3), (len(loops), 1, 1)), np.zeros((len(loops), 3)))
    return loops.at(~self_clashes(loops, loop_atoms(loops, origin)))


def _landmarks(frames: Frames) -> Array:
    """Nine numbers of a frame whose squared differences measure how far two frames are apart."""
    axes = _LEVER * frames.rotation
    return np.concatenate([frames.origin, axes[..., 0], axes[..., 1]], axis=-1)
