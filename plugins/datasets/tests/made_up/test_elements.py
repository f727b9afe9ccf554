import mdtraj
import numpy as np
import pytest

from esmgn_datasets.made_up.elements import SHEET_TWIST, STRAND_SPACING, Slot, end_pairs, place_elements


def sheet(directions, twist=SHEET_TWIST):
    slots = [Slot("E", 9, up, i * STRAND_SPACING, 0.0, i * twist) for i, up in enumerate(directions)]
    return place_elements(slots, np.random.default_rng(0))


def assigned(elements):
    """DSSP letters of each element, every element a chain of its own."""
    topology = mdtraj.Topology()
    for element in elements:
        chain = topology.add_chain()
        for _ in range(len(element.atoms)):
            residue = topology.add_residue("ALA", chain)
            for atom in ("N", "CA", "C", "O"):
                topology.add_atom(atom, mdtraj.element.Element.getBySymbol(atom[0]), residue)
    atoms = np.concatenate([element.atoms for element in elements]).reshape(1, -1, 3)
    letters = mdtraj.compute_dssp(mdtraj.Trajectory(atoms / 10.0, topology))[0]
    return np.split(letters, np.cumsum([len(element.atoms) for element in elements])[:-1])


@pytest.mark.parametrize("directions", [(1, 1, 1, 1), (1, 0, 1, 0), (1, 1, 0, 0)])
def test_strands_side_by_side_form_a_hydrogen_bonded_sheet(directions):
    """Parallel, antiparallel and mixed: nearly all residues but the ends of strands are bridged."""
    letters = np.stack(assigned(sheet(directions)))
    assert (letters[:, 1:-1] == "E").mean() > 0.9


def test_a_sheet_twisted_the_other_way_falls_apart():
    natural, mirrored = (
        np.concatenate(assigned(sheet((1, 1, 1, 1), twist))) for twist in (SHEET_TWIST, -SHEET_TWIST)
    )
    assert (mirrored == "E").sum() < 0.7 * (natural == "E").sum()


def test_an_element_lies_in_its_slot():
    slot = Slot("H", 20, up=True, x=5.0, z=10.0, turn=0.0)
    up, down = place_elements([slot, slot._replace(up=False)], np.random.default_rng(1))
    for element, sign in ((up, 1.0), (down, -1.0)):
        ca = element.atoms[:, 1]
        np.testing.assert_allclose(ca.mean(axis=0), (5.0, 0.0, 10.0), atol=0.8)
        length = ca[-4:].mean(axis=0) - ca[:4].mean(axis=0)
        assert length[1] * sign == pytest.approx(16 * 1.5, abs=1.5)


def test_helices_are_recognised_and_turned_differently():
    slot = Slot("H", 20, up=True, x=0.0, z=0.0, turn=0.0)
    helices = place_elements([slot, slot._replace(x=30.0)], np.random.default_rng(1))
    for letters in assigned(helices):
        assert (letters[1:-1] == "H").all()
    first, second = (helix.atoms[:, 1] - helix.atoms[:, 1].mean(axis=0) for helix in helices)
    assert np.abs(first - second).max() > 1.0


def test_a_loop_may_join_any_two_ends_within_the_spare_residues():
    strand, helix = place_elements(
        [Slot(kind, 12, up=True, x=0.0, z=0.0, turn=0.0) for kind in "EH"], np.random.default_rng(0)
    )
    assert end_pairs(strand, helix) == [(11, 0), (11, 1), (11, 2), (10, 0), (10, 1), (10, 2)]
