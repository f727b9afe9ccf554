import numpy as np
import pytest

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_datasets.made_up.backbone import backbone_atoms, chain_frames
from esmgn_datasets.made_up.sequences import (
    BURIALS,
    STATES,
    draw_types,
    residue_burials,
    residue_states,
    type_probabilities,
    virtual_beta,
)

MET_1_OF_UBIQUITIN = {
    "N": (27.340, 24.430, 2.614),
    "CA": (26.266, 25.413, 2.842),
    "C": (26.913, 26.639, 3.531),
    "O": (27.886, 26.463, 4.263),
    "CB": (25.112, 24.880, 3.649),
}
"""The first residue of 1UBQ, in angstrom."""


def backbone(torsions):
    return backbone_atoms(chain_frames(torsions), torsions[:, 1])


def favourites(state, burial, number):
    probabilities = type_probabilities()[STATES.index(state), BURIALS.index(burial)]
    return {AMINO_ACIDS[i] for i in np.argsort(-probabilities)[:number]}


def test_probabilities_are_positive_and_add_up_to_one():
    probabilities = type_probabilities()
    assert probabilities.shape == (4, 3, 20)
    assert (probabilities > 0.0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0)


def test_buried_residues_are_hydrophobic_and_exposed_ones_polar():
    assert favourites("H", "buried", 4) <= set("AILMV")
    assert favourites("H", "exposed", 4) <= set("DEKQR")
    assert favourites("E", "buried", 4) <= set("FILVY")
    assert favourites("E", "exposed", 3) <= set("KQRTY")


def test_turns_are_glycine_and_loops_break_helices():
    assert favourites("T", "between", 1) == {"G"}
    assert favourites("L", "exposed", 4) <= set("DGNPS")


def test_a_turn_is_a_loop_residue_with_positive_phi():
    phi = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
    assert "".join(STATES[i] for i in residue_states("LLLHE", phi)) == "LLTHE"


def test_one_side_of_a_helix_on_a_neighbour_is_buried():
    """The side chains of a helix in a bundle point by turns at the bundle and away from it."""
    helix = backbone(np.radians(np.full((18, 2), (-62.0, -43.0))))
    ca = helix[:, 1]
    axis = np.linalg.svd(ca - ca.mean(axis=0))[2][0]
    across = np.cross(axis, [1.0, 0.0, 0.0])
    across = across / np.linalg.norm(across)
    bundle = np.concatenate([helix, helix + 10.0 * across, helix + 10.0 * np.cross(axis, across)])
    burial = residue_burials(bundle)[4:14]
    towards = ((ca - ca.mean(axis=0)) @ (across + np.cross(axis, across)))[4:14]
    assert burial[towards > 1.0].mean() > burial[towards < -1.0].mean() + 0.8


def test_an_isolated_chain_is_exposed():
    strand = backbone(np.radians(np.full((12, 2), (-120.0, 130.0))))
    assert (residue_burials(strand) == 0).all()


def test_the_virtual_cb_is_where_a_real_l_amino_acid_has_it():
    atoms = np.array([MET_1_OF_UBIQUITIN[atom] for atom in ("N", "CA", "C", "O")])
    [beta] = virtual_beta(atoms[None])
    assert np.linalg.norm(beta - MET_1_OF_UBIQUITIN["CB"]) < 0.15
    assert np.linalg.norm(beta - atoms[1]) == pytest.approx(1.53)


def test_types_are_drawn_as_often_as_they_are_probable():
    state, burial = np.zeros(20_000, dtype=np.int64), np.ones(20_000, dtype=np.int64)
    types = draw_types(state, burial, np.random.default_rng(0))
    frequency = np.bincount(types, minlength=20) / 20_000
    np.testing.assert_allclose(frequency, type_probabilities()[0, 1], atol=0.01)


@pytest.mark.parametrize("state", range(len(STATES)))
def test_types_follow_the_state_and_burial_of_each_residue(state):
    burial = np.tile(np.arange(3), 4000)
    types = draw_types(np.full(12_000, state), burial, np.random.default_rng(1))
    for level in range(3):
        frequency = np.bincount(types[burial == level], minlength=20) / 4000
        np.testing.assert_allclose(frequency, type_probabilities()[state, level], atol=0.04)
