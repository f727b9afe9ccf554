"""Residue types drawn to match a backbone.

The probability of a type depends on two things a structure encoder can see: the *state* of the residue
(helix, strand, loop, or turn: a loop residue with positive phi) and its *burial* (exposed, between or
buried). With f the share of the type among natural proteins (UniProtKB/Swiss-Prot), P its conformational
parameter for the state (Chou & Fasman 1978, Adv. Enzymol. 47, 45) and h its hydropathy (Kyte & Doolittle
1982, J. Mol. Biol. 157, 105),

    p(type | state, burial) ~ f * P ** 4 * exp(0.4 * burial * h),    burial = -1, 0, 1.

Turns take the parameters of loops, with glycine, asparagine and aspartate favoured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import CA
from esmgn_datasets.made_up.backbone import Array

STATES = "HELT"
"""Helix, strand, loop, turn."""

BURIALS = ("exposed", "between", "buried")

# Share of the type among natural proteins in percent; its parameters for helix, strand, turn; hydropathy.
_SCALES = {
    "A": (8.25, 1.42, 0.83, 0.66, 1.8),
    "C": (1.38, 0.70, 1.19, 1.19, 2.5),
    "D": (5.46, 1.01, 0.54, 1.46, -3.5),
    "E": (6.72, 1.51, 0.37, 0.74, -3.5),
    "F": (3.86, 1.13, 1.38, 0.60, 2.8),
    "G": (7.07, 0.57, 0.75, 1.56, -0.4),
    "H": (2.27, 1.00, 0.87, 0.95, -3.2),
    "I": (5.91, 1.08, 1.60, 0.47, 4.5),
    "K": (5.80, 1.16, 0.74, 1.01, -3.9),
    "L": (9.65, 1.21, 1.30, 0.59, 3.8),
    "M": (2.41, 1.45, 1.05, 0.60, 1.9),
    "N": (4.06, 0.67, 0.89, 1.56, -3.5),
    "P": (4.74, 0.57, 0.55, 1.52, -1.6),
    "Q": (3.93, 1.11, 1.10, 0.98, -3.5),
    "R": (5.53, 0.98, 0.93, 0.95, -4.5),
    "S": (6.65, 0.77, 0.75, 1.43, -0.8),
    "T": (5.36, 0.83, 1.19, 0.96, -0.7),
    "V": (6.86, 1.06, 1.70, 0.50, 4.2),
    "W": (1.10, 1.08, 1.37, 0.96, -0.9),
    "Y": (2.92, 0.69, 1.47, 1.14, -1.3),
}
_PROPENSITY_WEIGHT, _BURIAL_WEIGHT = 4.0, 0.4
_TURN_FAVOURS = {"G": 12.0, "N": 4.0, "D": 2.0}
_CA_CB = 1.53
_SPHERE = 13.0
_BETWEEN, _BURIED = 8, 18


def type_probabilities() -> Array:
    """p(type | state, burial), float64 [4, 3, 20], in the order of ``STATES``, ``BURIALS``, residue types."""
    share, *parameters, hydropathy = np.array([_SCALES[letter] for letter in AMINO_ACIDS]).T
    favour = np.array([_TURN_FAVOURS.get(letter, 1.0) for letter in AMINO_ACIDS])
    helix, strand, loop = (share * parameter**_PROPENSITY_WEIGHT for parameter in parameters)
    states = np.stack([helix, strand, loop, loop * favour])
    burial = np.exp(_BURIAL_WEIGHT * np.outer([-1.0, 0.0, 1.0], hydropathy))
    weights = states[:, None] * burial
    probabilities: Array = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def residue_states(secondary_structure: str, phi: Array) -> NDArray[np.int64]:
    """State of every residue, int64 [n], an index into ``STATES``; phi [n] in radians."""
    state = np.array([STATES.index(letter) for letter in secondary_structure])
    positive = phi > 0.0
    # The first residue has no phi that atoms would show.
    positive[0] = False
    state[(state == STATES.index("L")) & positive] = STATES.index("T")
    return state


def residue_burials(backbone: Array) -> NDArray[np.int64]:
    """Burial of every residue, int64 [n], an index into ``BURIALS``.

    Half-sphere exposure (Hamelryck 2005, Proteins 59, 38): CA atoms within 13 angstrom on the side the
    side chain points to; fewer than 8 are exposed, 18 or more buried.

    Args:
        backbone: float64 [n, 4, 3] in angstrom.
    """
    side = virtual_beta(backbone) - backbone[:, CA]
    apart = backbone[None, :, CA] - backbone[:, None, CA]
    near = (apart**2).sum(axis=-1) < _SPHERE**2
    count = (near & ((apart * side[:, None]).sum(axis=-1) > 0.0)).sum(axis=1)
    burial: NDArray[np.int64] = np.searchsorted([_BETWEEN, _BURIED], count, side="right")
    return burial


def virtual_beta(backbone: Array) -> Array:
    """Positions [n, 3] of the CB of L amino acids, from N, CA and C [n, 4, 3] and a tetrahedral CA."""
    nitrogen, ca, carbon = (backbone[:, i] for i in range(3))
    between = _unit(_unit(nitrogen - ca) + _unit(carbon - ca))
    across = _unit(np.cross(nitrogen - ca, carbon - ca))
    beta: Array = ca + _CA_CB * (np.sqrt(2.0 / 3.0) * across - np.sqrt(1.0 / 3.0) * between)
    return beta


def draw_types(
    state: NDArray[np.int64], burial: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Residue types, int64 [n], see :mod:`esmgn_core.alphabet`."""
    cumulated = type_probabilities().cumsum(axis=-1)[state, burial, :-1]
    types: NDArray[np.int64] = (rng.random(len(state))[:, None] >= cumulated).sum(axis=1)
    return types


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return unit
