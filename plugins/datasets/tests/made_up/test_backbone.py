import gemmi
import numpy as np
import pytest

from esmgn_datasets.made_up.backbone import (
    C_N,
    C_N_CA,
    C_O,
    CA_C,
    CA_C_N,
    CA_C_O,
    N_CA,
    N_CA_C,
    backbone_atoms,
    chain_frames,
)


def build(torsions):
    return backbone_atoms(chain_frames(torsions), torsions[..., 1])


def dihedral(*points):
    return gemmi.calculate_dihedral(*(gemmi.Position(*point) for point in points))


def angle(first, middle, last):
    one, two = first - middle, last - middle
    return np.arccos((one * two).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1))


@pytest.fixture
def torsions():
    return np.random.default_rng(0).uniform(-np.pi, np.pi, (12, 2))


def test_atoms_have_the_torsions_they_were_built_from(torsions):
    phi, psi = torsions.T
    n, ca, c, o = np.moveaxis(build(torsions), 1, 0)
    for i in range(1, 11):
        assert dihedral(c[i - 1], n[i], ca[i], c[i]) == pytest.approx(phi[i])
        assert dihedral(n[i], ca[i], c[i], n[i + 1]) == pytest.approx(psi[i])
        assert abs(dihedral(ca[i], c[i], n[i + 1], ca[i + 1])) == pytest.approx(np.pi)
        assert abs(dihedral(o[i], c[i], n[i + 1], ca[i + 1])) == pytest.approx(0.0, abs=1e-6)


def test_bond_lengths_and_angles_are_ideal_whatever_the_torsions(torsions):
    n, ca, c, o = np.moveaxis(build(torsions), 1, 0)
    for first, second, length in ((n, ca, N_CA), (ca, c, CA_C), (c, o, C_O), (c[:-1], n[1:], C_N)):
        np.testing.assert_allclose(np.linalg.norm(first - second, axis=-1), length)
    np.testing.assert_allclose(angle(n, ca, c), N_CA_C)
    np.testing.assert_allclose(angle(ca, c, o), CA_C_O)
    np.testing.assert_allclose(angle(ca[:-1], c[:-1], n[1:]), CA_C_N)
    np.testing.assert_allclose(angle(c[:-1], n[1:], ca[1:]), C_N_CA)


def test_chains_built_together_are_the_chains_built_alone(torsions):
    chains = torsions.reshape(3, 4, 2)
    together = build(chains)
    alone = np.stack([build(chain) for chain in chains])
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_no_chains_are_no_frames():
    assert chain_frames(np.zeros((0, 8, 2))).shape == (0, 8, 4, 4)


def test_an_alpha_helix_rises_by_one_and_a_half_angstrom_and_is_right_handed():
    atoms = build(np.radians(np.full((30, 2), (-62.0, -43.0))))
    ca = atoms[:, 1]
    # Eighteen residues are five turns, so the two atoms lie above each other.
    assert np.linalg.norm(ca[22] - ca[4]) / 18 == pytest.approx(1.5, abs=0.06)
    assert np.degrees(dihedral(*ca[4:8])) == pytest.approx(50.0, abs=3.0)
    hydrogen_bond = np.linalg.norm(atoms[:-4, 3] - atoms[4:, 0], axis=-1)
    assert hydrogen_bond.max() < 3.3
