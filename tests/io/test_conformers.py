"""Alternate locations, microheterogeneity and repeated atoms."""

from dataclasses import replace

import pytest
import torch

from .made_up import Atom, ca, chain, cif, pdb, residue

# Alternate locations


@pytest.mark.parametrize("first", [0.3, 0.7])
def test_the_most_occupied_conformer_is_read(read, first):
    a = residue(2, altloc="A", occupancy=first, shift=0.1)
    b = residue(2, altloc="B", occupancy=1 - first, shift=0.2)
    mixed = [atom for pair in zip(a, b, strict=True) for atom in pair]
    for text in (pdb(residue(1), mixed), cif([*residue(1), *mixed])):
        protein = read(text)
        expected = torch.tensor([atom.position for atom in (a if first > 0.5 else b)])
        torch.testing.assert_close(protein.backbone[1], expected, atol=6e-4, rtol=0)


def test_of_conformers_with_equal_occupancy_the_first_is_read(read):
    a = residue(1, altloc="B", occupancy=0.5, shift=0.1)
    b = residue(1, altloc="A", occupancy=0.5, shift=0.2)
    torch.testing.assert_close(read(pdb(a, b)).backbone[0, 1], torch.tensor(a[1].position), atol=6e-4, rtol=0)


def test_a_residue_is_not_mixed_from_two_conformers(read):
    """Even where the occupancies of single atoms speak for different conformers."""
    a = [replace(atom, occupancy=0.9 if atom.name == "O" else 0.3) for atom in residue(1, altloc="A")]
    b = [
        replace(atom, occupancy=0.1 if atom.name == "O" else 0.7)
        for atom in residue(1, altloc="B", shift=0.5)
    ]
    expected = torch.tensor([atom.position for atom in b])
    torch.testing.assert_close(read(pdb(a, b)).backbone[0], expected, atol=6e-4, rtol=0)


def test_atoms_the_chosen_conformer_lacks_come_from_the_other(read):
    a = residue(1, altloc="A", occupancy=0.6, atoms=("CA", "C"))
    b = residue(1, altloc="B", occupancy=0.4, shift=0.2)
    protein = read(pdb(a, b))
    assert protein.atom_mask.all()
    expected = torch.tensor([b[0].position, a[0].position, a[1].position, b[3].position])
    torch.testing.assert_close(protein.backbone[0], expected, atol=6e-4, rtol=0)


def test_a_conformer_with_ca_goes_before_one_without(read):
    a = residue(1, altloc="A", occupancy=0.8, atoms=("N", "C"))
    b = residue(1, altloc="B", occupancy=0.2, shift=0.2)
    expected = torch.tensor([atom.position for atom in b])
    torch.testing.assert_close(read(pdb(a, b)).backbone[0], expected, atol=6e-4, rtol=0)


@pytest.mark.parametrize(("serine", "expected"), [(0.6, "ASG"), (0.4, "APG")])
def test_microheterogeneity_is_one_residue_of_the_most_occupied_type(read, serine, expected):
    two = [
        *residue(2, "SER", altloc="A", occupancy=serine),
        *residue(2, "PRO", altloc="B", occupancy=1 - serine),
    ]
    atoms = [*residue(1), *two, *residue(3, "GLY")]
    for text in (pdb(atoms), cif(atoms)):
        assert read(text).sequence == expected
        assert read.report.without_ca == 0


def test_residue_types_are_not_mixed(read):
    """Neither to fill in a missing atom, nor where one type has an atom without a label."""
    serine = residue(1, "SER", altloc="A", occupancy=0.6, atoms=("N", "CA", "C"))
    proline = residue(1, "PRO", altloc="B", occupancy=0.4, shift=0.2)
    proline[0] = replace(proline[0], altloc=" ")
    for atoms in ([*serine, *proline], [*proline, *serine]):
        protein = read(pdb(atoms))
        assert protein.sequence == "S"
        assert protein.atom_mask.tolist() == [[True, True, True, False]]
        expected = torch.tensor([atom.position for atom in serine])
        torch.testing.assert_close(protein.backbone[0, :3], expected, atol=6e-4, rtol=0)


def test_unlabelled_residues_that_share_a_number_are_two(read):
    assert read(pdb(residue(1), residue(2, "GLY", number=1), residue(3, "SER", number=1))).sequence == "AGS"


def test_a_second_type_with_side_chain_atoms_only_is_no_residue_without_ca(read):
    side_chain = [Atom("CG1", "ILE", 1, (9.0, 9.0, 9.0), altloc="B", occupancy=0.4)]
    assert read(pdb(residue(1, "LEU"), side_chain, residue(2))).sequence == "LA"
    assert read.report.without_ca == 0


def test_repeated_atoms_count_once_and_the_first_wins(read):
    protein = read(pdb(residue(1), residue(1, shift=0.5), residue(2), residue(3)))
    assert len(protein) == 3
    assert protein.notes == ("residues given twice at one position, the first of which was read: 1",)
    torch.testing.assert_close(protein.backbone[0, 1], torch.tensor(ca(1)), atol=6e-4, rtol=0)


def test_zero_occupancy_atoms_are_read(read):
    assert len(read(pdb(chain("ALA", "GLY", occupancy=0.0)))) == 2
