"""Residue names, and which residues are part of a protein."""

from dataclasses import replace

import pytest

from .made_up import CALCIUM, DNA, FREE_ASN, SUGAR, WATER, chain, cif, pdb, residue

# Residue names


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("MSE", "M"), ("SEP", "S"), ("TPO", "T"), ("PTR", "Y"), ("HYP", "P"), ("DVA", "V"), ("NLE", "L"),
        ("SEC", "C"), ("PYL", "K"), ("HSD", "H"), ("HIP", "H"), ("CYX", "C"), ("ASH", "D"), ("GLH", "E"),
    ],
)  # fmt: skip
def test_modified_residues_become_their_parent(read, name, letter):
    protein = read(pdb(chain("ALA", name, "GLY")))
    assert protein.sequence == f"A{letter}G"
    assert read.report.modified == {name: letter}
    assert read.report.unknown == {}


@pytest.mark.parametrize("name", ["UNK", "ASX", "GLX"])
def test_residues_without_a_standard_parent_are_unknown(read, name):
    assert read(pdb(chain("ALA", name, name, "GLY"))).sequence == "AXXG"
    assert read.report.unknown == {name: 2}
    assert read.report.modified == {}


def test_lower_case_residue_names(read):
    assert read(pdb(chain("ala", "trp", "hsd", "gly"))).sequence == "AWHG"
    assert read.report.modified == {"HSD": "H"}


def test_the_file_may_name_the_parent_of_a_residue_nobody_lists(read):
    modres = "MODRES TEST ZZ9 A    2  LYS  A MODIFICATION NOBODY LISTS\n"
    bare = pdb(chain("ALA", "ZZ9", "GLY"))
    assert read(modres + bare).sequence == "AKG"
    assert read(bare).sequence == "AXG"


@pytest.mark.parametrize("ter", ["TER\n", ""])
def test_waters_ions_sugars_free_amino_acids_and_dna_are_left_out(read, ter):
    protein = read(pdb(chain("ALA", "GLY"), ter, DNA, [WATER, CALCIUM, SUGAR], FREE_ASN))
    assert protein.sequence == "AG"
    assert protein.chains == ("A",)
    assert read.report.left_out == 5
    assert read.report.without_ca == 0


def test_mmcif_entities_tell_a_free_amino_acid_from_a_residue(read):
    entities = "loop_\n_entity.id\n_entity.type\n1 polymer\n2 non-polymer\n"
    lone = residue(20, "MSE", record="HETATM")
    free = [replace(atom, chain="B", entity="2") for atom in residue(3, "GLU", record="ATOM")]
    assert read(cif([*chain("ALA", "GLY"), *lone, *free], entities)).sequence == "AGM"


def test_modified_residues_in_the_chain_are_kept_though_hetatm(read):
    """Without TER and entities, peptide bonds decide."""
    atoms = [*residue(1), *residue(2, "MSE", record="HETATM"), *residue(3, "GLY")]
    free = residue(30, "MSE", record="HETATM")
    assert read(pdb(atoms, free)).sequence == "AMG"
    assert read(cif([*atoms, *free])).sequence == "AMG"


def test_modified_residues_of_ca_traces_are_kept(read):
    only = ("CA",)
    atoms = [*residue(1, atoms=only), *residue(2, "MSE", record="HETATM", atoms=only)]
    assert read(pdb(atoms, residue(30, "MSE", record="HETATM", atoms=only))).sequence == "AM"


def test_the_peptide_bond_is_looked_for_within_a_chain(read):
    neighbour = residue(2, "MSE", record="HETATM", chain="B")
    assert read(pdb(residue(1), neighbour)).sequence == "A"


def test_a_polymer_residue_whose_neighbours_are_missing_is_kept(read):
    assert (
        read(pdb(residue(1), residue(9, "MSE", record="HETATM"), residue(17, "GLY"), "TER\n")).sequence
        == "AMG"
    )


def test_residues_without_ca_are_dropped_and_counted(read):
    text = pdb(residue(1), residue(2, "TRP", atoms=("N", "C", "O")), residue(3, "GLY"), [WATER])
    assert read(text).sequence == "AG"
    assert (read.report.without_ca, read.report.left_out) == (1, 1)


@pytest.mark.parametrize("value", ["     nan", "     inf", "    -inf", "    1e99"])
def test_residues_whose_ca_is_not_finite_are_dropped_and_counted(read, value):
    line = residue(2, "TRP")[1].pdb
    broken = line[:30] + value + line[38:]
    text = pdb(residue(1), residue(2, "TRP")[:1], broken, residue(3, "GLY"))
    assert read(text).sequence == "AG"
    assert read.report.without_ca == 1


def test_calcium_without_an_element_column_is_no_alpha_carbon(read):
    calcium = CALCIUM.pdb[:76] + "\n"
    alpha = "".join(atom.pdb[:54] + "\n" for atom in residue(1))
    assert read(alpha + calcium).sequence == "A"


def test_calcium_beside_an_alpha_carbon_trace_is_no_residue(read):
    calcium = replace(residue(3, "CAX", record="HETATM", atoms=("CA",))[0], element="CA")
    trace = [atom for i in (1, 2) for atom in residue(i, atoms=("CA",))]
    assert read(pdb(trace, [calcium])).sequence == "AA"
    assert read(pdb(trace, [replace(calcium, element="C")])).sequence == "AAX"


def test_coarse_grained_beads_are_refused(read):
    beads = [replace(a, position=(a.position[0], a.position[1], a.position[2] + 3 * (a.name == "CB")))
             for i in range(1, 9) for a in residue(i, atoms=("CA", "CB"))]  # fmt: skip
    assert "coarse-grained" in read.refuses(pdb(beads))
    real = [atom for i in range(1, 9) for atom in residue(i, atoms=("CA", "CB"))]
    assert len(read(pdb(real))) == 8


def test_alternates_are_counted_of_residues_that_are_read(read):
    """Not of a ligand, and not of a residue that is dropped without a CA atom."""

    def alternates(atoms):
        return [replace(atom, altloc=letter, occupancy=0.5) for letter in "AB" for atom in atoms]

    kept, dropped = residue(2, "SER"), residue(3, "SER", atoms=("N", "C", "O"))
    ligand = [replace(SUGAR, number=40)]
    protein = read(pdb(chain("ALA"), *map(alternates, (kept, dropped, ligand)), chain("GLY", start=4)))
    assert (protein.sequence, read.report.without_ca, read.report.left_out) == ("ASG", 1, 1)
    assert read.report.alternates == 1
