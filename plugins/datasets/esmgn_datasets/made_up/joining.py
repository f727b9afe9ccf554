"""Loops that join the elements of a fold without touching anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from esmgn_datasets.made_up.backbone import Array, stack_frames
from esmgn_datasets.made_up.contacts import too_close
from esmgn_datasets.made_up.elements import Element, ElementKind, end_pairs
from esmgn_datasets.made_up.library import LoopLibrary
from esmgn_datasets.made_up.loops import Loops, close_loops, gather, loop_atoms, self_clashes

_CANDIDATES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """A loop of L residues in place between two elements.

    Attributes:
        leave: residue of the first element the loop starts from.
        enter: residue of the second element the loop leads to.
        torsions: float64 [2, L + 2], phi and psi in radians, both of these residues included.
    """

    leave: int
    enter: int
    torsions: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """C closed loops in place: the gap each one closes and between which residues, all int64 [C]."""

    loops: Loops
    gap: NDArray[np.int64]
    leave: NDArray[np.int64]
    enter: NDArray[np.int64]
    atoms: Array


def join_elements(
    elements: Sequence[Element], libraries: Mapping[ElementKind, LoopLibrary], rng: np.random.Generator
) -> list[Join] | None:
    """One loop for every two consecutive elements, or nothing when some gap cannot be closed."""
    untried = [_shuffled(end_pairs(before, after), rng) for before, after in pairwise(elements)]
    joins: dict[int, Join] = {}
    placed = np.zeros((0, 4, 3))
    while len(joins) < len(untried):
        gaps = [gap for gap in range(len(untried)) if gap not in joins]
        if not all(untried[gap] for gap in gaps):
            return None
        found = _find(elements, [(gap, *untried[gap].pop()) for gap in gaps], libraries)
        free = _untouched(found, elements, placed)
        # Short loops first, but not always the same.
        for i in np.argsort(found.loops.length + 2.0 * rng.random(len(free))):
            gap, length = int(found.gap[i]), int(found.loops.length[i])
            if gap in joins or not free[i]:
                continue
            torsions = found.loops.torsions[:, : length + 2, i]
            joins[gap] = Join(int(found.leave[i]), int(found.enter[i]), torsions)
            atoms = found.atoms[i, 1 : length + 1]
            placed = np.concatenate([placed, atoms])
            rest = np.flatnonzero(free & (found.gap != gap))
            touching = too_close(found.atoms[rest], atoms, found.loops.inner[rest, :, None])
            free[rest] = ~touching.any(axis=(1, 2))
    return [joins[gap] for gap in sorted(joins)]


def _shuffled(pairs: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    return [pairs[i] for i in np.argsort(rng.random(len(pairs)))]


def _find(
    elements: Sequence[Element],
    ends: Sequence[tuple[int, int, int]],
    libraries: Mapping[ElementKind, LoopLibrary],
) -> _Found:
    """Loops that close gaps, each tried with the residues given after its number."""
    start = stack_frames([elements[gap].frames.at(leave) for gap, leave, _ in ends])
    end = stack_frames([elements[gap + 1].frames.at(enter) for gap, _, enter in ends])
    target = start.inverse().then(end)
    kinds = [elements[gap].kind for gap, _, _ in ends]
    drawn = [libraries[kind].nearest(target.at(i), _CANDIDATES) for i, kind in enumerate(kinds)]
    which = np.repeat(np.arange(len(ends)), _CANDIDATES)
    loops, closed = close_loops(gather(drawn), target.at(which))
    loops, which = loops.at(closed), which[closed]
    gap, leave, enter = np.array(ends)[which].T
    return _Found(loops, gap, leave, enter, loop_atoms(loops, start.at(which)))


def _untouched(found: _Found, elements: Sequence[Element], placed: Array) -> NDArray[np.bool_]:
    """Which loops, bool [C], come too close neither to themselves nor to what is in place."""
    first = np.cumsum([0] + [len(element) for element in elements])
    fixed = np.concatenate([*(element.atoms for element in elements), placed])
    # The ends of the two elements are bonded to the loop; what lies beyond them is lost.
    number = np.arange(len(fixed))
    before = number < (first[found.gap] + found.leave)[:, None]
    present = before | (number > (first[found.gap + 1] + found.enter)[:, None])
    near = too_close(found.atoms, fixed, found.loops.inner[:, :, None] & present[:, None, :])
    return ~(self_clashes(found.loops, found.atoms) | near.any(axis=(1, 2)))
