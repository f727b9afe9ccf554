"""Loops that join the elements of a fold without touching anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from esmgn_datasets.made_up.backbone import Array
from esmgn_datasets.made_up.contacts import too_close
from esmgn_datasets.made_up.elements import Element, ElementKind, end_pairs
from esmgn_datasets.made_up.library import LoopLibrary
from esmgn_datasets.made_up.loops import close_loops, gather, self_clashes

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
    first = np.cumsum([0] + [len(element.atoms) for element in elements])
    fixed = np.concatenate([element.atoms for element in elements])
    joins: dict[int, Join] = {}
    while len(joins) < len(untried):
        gaps = [gap for gap in range(len(untried)) if gap not in joins]
        if not all(untried[gap] for gap in gaps):
            return None
        ends = np.array([untried[gap].pop() for gap in gaps])
        start = np.stack([elements[gap].frames[leave] for gap, (leave, _) in zip(gaps, ends, strict=True)])
        end = np.stack([elements[gap + 1].frames[enter] for gap, (_, enter) in zip(gaps, ends, strict=True)])
        target = np.linalg.inv(start) @ end
        near = [
            libraries[elements[gap].kind].nearest(one, _CANDIDATES)
            for gap, one in zip(gaps, target, strict=True)
        ]
        which = np.repeat(np.arange(len(gaps)), _CANDIDATES)
        loops, closed = close_loops(gather(near), target[which])
        loops, which = loops.at(closed), which[closed]
        atoms = loops.atoms(start[which])
        gap, (leave, enter) = np.array(gaps)[which], ends[which].T
        # The ends of the two elements are bonded to the loop; the residues beyond them are lost.
        number = np.arange(len(fixed))
        present = (number < (first[gap] + leave)[:, None]) | (number > (first[gap + 1] + enter)[:, None])
        touching = too_close(atoms, fixed, loops.inner[:, :, None] & present[:, None]).any(axis=(1, 2))
        free = ~(touching | self_clashes(loops, atoms))
        # Short loops first, but not always the same.
        for i in np.argsort(loops.length + 2.0 * rng.random(len(free))):
            if gap[i] in joins or not free[i]:
                continue
            length = loops.length[i]
            joins[gap[i]] = Join(int(leave[i]), int(enter[i]), loops.torsions[i, : length + 2])
            placed = atoms[i, 1 : length + 1]
            fixed = np.concatenate([fixed, placed])
            rest = np.flatnonzero(free & (gap != gap[i]))
            touching = too_close(atoms[rest], placed, loops.inner[rest, :, None]).any(axis=(1, 2))
            free[rest] = ~touching
    return [joins[gap] for gap in sorted(joins)]
