from itertools import combinations, pairwise

import numpy as np
import pytest

from esmgn_datasets.made_up.elements import SPARE, STRAND_SPACING
from esmgn_datasets.made_up.folds import FOLDS, LOOP, TAILS


def designs(name):
    fold = FOLDS[name]
    rng = np.random.default_rng(0)
    for length in np.linspace(fold.shortest, fold.longest, 9).astype(int):
        for _ in range(3):
            yield int(length), fold.design(int(length), rng)


@pytest.mark.parametrize("name", FOLDS)
def test_a_design_has_about_the_residues_asked_for(name):
    for length, slots in designs(name):
        elements = sum(slot.length - SPARE[slot.kind] for slot in slots)
        assert abs(elements + LOOP * (len(slots) - 1) + TAILS - length) <= len(slots) + 3


@pytest.mark.parametrize("name", FOLDS)
def test_no_two_elements_share_a_place(name):
    """Strands of a sheet are a strand apart, everything else about ten angstrom."""
    for _, slots in designs(name):
        for one, other in combinations(slots, 2):
            apart = np.hypot(one.x - other.x, one.z - other.z)
            least = STRAND_SPACING if one.kind == other.kind == "E" else 9.5
            assert apart >= least - 1e-6


@pytest.mark.parametrize("name", FOLDS)
def test_consecutive_elements_are_within_reach_of_a_loop(name):
    """The end of one and the start of the next lie on the same side unless a helix crosses between."""
    for _, slots in designs(name):
        for before, after in pairwise(slots):
            assert before.up != after.up
            assert np.hypot(before.x - after.x, before.z - after.z) < 16.0


@pytest.mark.parametrize("name", ["alpha_beta", "ferredoxin", "beta_grasp"])
def test_helices_cross_between_parallel_strands_right_handed(name):
    crossings = 0
    for _, slots in designs(name):
        for first, helix, second in zip(slots, slots[1:], slots[2:], strict=False):
            if (first.kind, helix.kind, second.kind) == ("E", "H", "E") and first.up == second.up:
                along = np.array([0.0, 1.0 if first.up else -1.0, 0.0])
                over = np.array([helix.x - first.x, 0.0, helix.z - first.z])
                across = np.array([second.x - first.x, 0.0, 0.0])
                assert along @ np.cross(over, across) > 0.0
                crossings += 1
    assert crossings > 0


def test_every_length_has_at_least_one_fold():
    for length in range(30, 201):
        assert any(fold.shortest <= length <= fold.longest for fold in FOLDS.values()), length
