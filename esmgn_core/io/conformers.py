"""Choose the conformer of each residue with alternate locations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import CA

_DISCARDED = -1


def choose_conformers(
    residue: NDArray[np.int64],
    component: NDArray[np.int64],
    slot: NDArray[np.int64],
    altloc: NDArray[np.int8],
    occupancy: NDArray[np.float32],
    first_component: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep one atom per residue and slot, from one conformer per residue if possible.

    Conformers with a CA atom are preferred, then the largest mean occupancy of the labelled atoms, then the
    first in the file. If the chosen conformer lacks an atom, that of the next conformer with the same residue
    name is used. Of repeated atoms the first in the file is kept.

    Args:
        residue: int64 [A], ascending; the residue of each atom.
        component: int64 [A]; the residue name of each atom, numbered over all residues.
        slot: int64 [A]; index of the atom name.
        altloc: int8 [A]; label of the alternate location, 0 for none.
        occupancy: float32 [A].
        first_component: int64 [R]; the first component of each residue.

    Returns:
        int64 indices of the kept atoms, and int64 [R], the component of each residue.
    """
    rank = np.zeros(len(residue), dtype=np.int64)
    chosen = first_component.copy()
    for ambiguous in np.unique(residue[altloc != 0]):
        atoms = slice(*np.searchsorted(residue, [ambiguous, ambiguous + 1]))
        chosen[ambiguous], rank[atoms] = _rank(component[atoms], slot[atoms], altloc[atoms], occupancy[atoms])
    order = np.lexsort((rank, slot, residue))
    order = order[rank[order] != _DISCARDED]
    kept = np.ones(len(order), dtype=np.bool_)
    kept[1:] = (np.diff(residue[order]) != 0) | (np.diff(slot[order]) != 0)
    return order[kept], chosen


def _rank(
    component: NDArray[np.int64],
    slot: NDArray[np.int64],
    altloc: NDArray[np.int8],
    occupancy: NDArray[np.float32],
) -> tuple[int, list[int]]:
    """Return the chosen component of one residue, and the rank of each of its atoms, 0 the best."""
    conformers = list(zip(component.tolist(), altloc.tolist(), strict=True))
    shared_ca = bool(((altloc == 0) & (slot == CA)).any())

    def preference(conformer: tuple[int, int]) -> tuple[bool, float]:
        own = (component == conformer[0]) & (altloc == conformer[1])
        has_ca = shared_ca or bool((slot[own] == CA).any())
        return not has_ca, -round(float(occupancy[own].mean()), 3)

    best = sorted(dict.fromkeys(pair for pair in conformers if pair[1] != 0), key=preference)
    chosen = best[0][0]
    ranks = []
    for pair in conformers:
        if pair[1] == 0:  # shared by all conformers; the name of the chosen one is preferred
            ranks.append(0 if pair[0] == chosen else 1)
        elif pair[0] == chosen:
            ranks.append(0 if pair == best[0] else 2 + best.index(pair))
        else:
            ranks.append(_DISCARDED)
    return chosen, ranks
