"""Loops that join the elements of a fold without touching anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_datasets.made_up.backbone import Array
from esmgn_datasets.made_up.contacts import too_close
from esmgn_datasets.made_up.elements import Element, ElementKind, end_pairs
from esmgn_datasets.made_up.library import LoopLibrary
from esmgn_datasets.made_up.loops import Loops, close_loops, gather, self_clashes

_CANDIDATES = 8


class Join(NamedTuple):
    """A loop of L residues in place between two elements.

    Attributes:
        leave: residue of the first element the loop starts from.
        enter: residue of the second element the loop leads to.
        torsions: float64 [L + 2, 2], phi and psi in radians, both of these residues included.
    """

    leave: int
    enter: int
    torsions: Array


def join_elements(
    elements: Sequence[Element], libraries: Mapping[ElementKind, LoopLibrary], rng: np.random.Generator
) -> list[Join] | None:
    """Loops between consecutive elements that touch nothing, or None if a gap cannot be closed.

    Every round tries the nearest loops of the library between one pair of ends of each open gap.
    """
    untried = []
    for before, after in pairwise(elements):
        pairs = end_pairs(before, after)
        untried.append([pairs[i] for i in np.argsort(rng.random(len(pairs)))])
    fixed = np.concatenate([element.atoms for element in elements])
    joins: dict[int, Join] = {}
    while len(joins) < len(untried):
        gaps = [gap for gap in range(len(untried)) if gap not in joins]
        if not all(untried[gap] for gap in gaps):
            return None
        tried = np.array([(gap, *untried[gap].pop()) for gap in gaps])
        loops, ends, atoms = _closed_loops(elements, tried, libraries)
        free = ~(_touch(loops, ends, atoms, elements, fixed) | self_clashes(loops, atoms))
        # Short loops first, but not always the same.
        for i in np.argsort(loops.length + 2.0 * rng.random(len(free))):
            gap, leave, enter = ends[i].tolist()
            if gap in joins or not free[i]:
                continue
            length = loops.length[i]
            joins[gap] = Join(leave, enter, loops.torsions[i, : length + 2])
            placed = atoms[i, 1 : length + 1]
            fixed = np.concatenate([fixed, placed])
            rest = np.flatnonzero(free & (ends[:, 0] != gap))
            touching = too_close(atoms[rest], placed, loops.inner[rest, :, None])
            free[rest] = ~touching.any(axis=(1, 2))
    return [joins[gap] for gap in sorted(joins)]


def _closed_loops(
    elements: Sequence[Element], tried: NDArray[np.int64], libraries: Mapping[ElementKind, LoopLibrary]
) -> tuple[Loops, NDArray[np.int64], Array]:
    """Loops that close gaps, their ends, int64 [C, 3], and atoms, float64 [C, 8, 4, 3].

    The ends are the gap and the residues to leave and to enter, chosen from the rows of ``tried``.
    """
    start = np.stack([elements[gap].frames[leave] for gap, leave, _ in tried])
    end = np.stack([elements[gap + 1].frames[enter] for gap, _, enter in tried])
    target = np.linalg.inv(start) @ end
    kinds = [elements[gap].kind for gap in tried[:, 0]]
    near = [libraries[kind].nearest(one, _CANDIDATES) for kind, one in zip(kinds, target, strict=True)]
    which = np.repeat(np.arange(len(tried)), _CANDIDATES)
    loops, closed = close_loops(gather(near), target[which])
    loops, which = loops.at(closed), which[closed]
    return loops, tried[which], loops.atoms(start[which])


def _touch(
    loops: Loops, ends: NDArray[np.int64], atoms: Array, elements: Sequence[Element], fixed: Array
) -> NDArray[np.bool_]:
    """Which loops, bool [C], come too close to ``fixed``: the elements, then the loops in place."""
    first = np.cumsum([0] + [len(element.atoms) for element in elements])
    gap, leave, enter = ends.T
    # The ends of the two elements are bonded to the loop; the residues beyond them are lost.
    number = np.arange(len(fixed))
    present = (number < (first[gap] + leave)[:, None]) | (number > (first[gap + 1] + enter)[:, None])
    touching = too_close(atoms, fixed, loops.inner[:, :, None] & present[:, None])
    return np.asarray(touching.any(axis=(1, 2)))
