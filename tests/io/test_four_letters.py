"""Column 21 of PDB text: the fourth letter of a residue name, or the first of a chain name."""

from __future__ import annotations

import pytest

from esmgn_core.io.read import read_content
from esmgn_core.io.residues import STANDARD_NAMES, ResidueClass, classify, name_of_letter

from .made_up import BACKBONE, chain, pdb, residue
from .test_copies import CA_ONLY, TEN, copy, read

NAMED = {
    "A": "ALAD",
    "C": "CYS1 CYS2 CYSH CYX CYM",
    "D": "ASPH ASPP ASH",
    "E": "GLUH GLUP GLH",
    "H": "HISE HISD HISH HISA HISB HIS1 HIS2 HISP HID HIE HIP HSD HSE HSP",
    "K": "LYSH LYN",
    "N": "ASN1",
    "R": "ARGN",
}
PAIRS = [(name, letter) for letter, names in NAMED.items() for name in names.split()]
TERMINAL = [f"{prefix}{name}" for prefix in "NC" for name in sorted(STANDARD_NAMES)]
STATES = {"HID": "H", "HIE": "H", "HIP": "H", "CYX": "C", "GLH": "E", "ASH": "D", "LYN": "K"}
TERMINAL += [f"{prefix}{name}" for prefix in "NC" for name in STATES]


@pytest.mark.parametrize("chain_name", ["A", " "])
@pytest.mark.parametrize("atoms", [BACKBONE, CA_ONLY])
@pytest.mark.parametrize(("name", "letter"), PAIRS)
def test_names_of_protonation_states_are_read_in_their_place(name, letter, atoms, chain_name):
    text = pdb(chain("MET", "GLY", name, "SER", "TRP", chain=chain_name, atoms=atoms))
    assert read(text) == ({chain_name.strip(): f"MG{letter}SW"}, ())


@pytest.mark.parametrize("chain_name", ["A", " "])
@pytest.mark.parametrize("name", TERMINAL)
def test_terminal_names_are_read_as_their_parent(name, chain_name):
    letter = STATES.get(name[1:]) or next(
        one for one in "ARNDCQEGHILKMFPSTWYV" if name_of_letter(one) == name[1:]
    )
    inside = ("ALA", "LYS")
    names = (name, *inside) if name[0] == "N" else (*inside, name)
    expected = f"{letter}AK" if name[0] == "N" else f"AK{letter}"
    assert read(pdb(chain(*names, chain=chain_name), "TER\n")) == ({chain_name.strip(): expected}, ())


def test_peptides_of_nothing_else_are_read():
    assert read(pdb(chain("NALA", "CALA")))[0] == {"A": "AA"}
    assert read(pdb(chain("NMET", "LYSH", "HISE", "CSER")))[0] == {"A": "MKHS"}


def test_a_residue_between_gaps_is_read_in_its_place():
    text = pdb(chain(*TEN[:2]), residue(5, "HISE"), chain(*TEN[7:], start=8))
    assert read(text)[0] == {"A": "MKHCKS"}


def test_caps_around_terminal_names_are_left_out():
    atoms = [
        *residue(0, "ACE", ("C", "O")),
        *chain("NMET", "LYS", "CSER"),
        *residue(4, "NME", ("N",)),
    ]
    assert read(pdb(atoms))[0] == {"A": "MKS"}


def test_unknown_names_stay_in_their_chain_as_x_and_are_noted():
    note = "residues with an unknown name of four letters, read as X: 1"
    assert read(pdb(chain("MET", "QZXW", "SER"))) == ({"A": "MXS"}, (note,))


def test_waters_and_lipids_of_four_letters_are_no_chains():
    water = residue(20, "TIP3", ("O",), chain="W")
    lipid = residue(21, "POPC", ("CB", "O"), chain="L")
    reading = read_content(pdb(chain(*TEN), "TER\n", water, lipid).encode(), "x.pdb")
    assert reading.residues.chains == ("A",)
    assert reading.report.left_out_kinds == {"water": 1, "unknown residue": 1}


@pytest.mark.parametrize("ter", ["TER\n", ""])
@pytest.mark.parametrize("names", [("AA", "BA"), ("EA", " A"), ("HA", "HB"), ("1A", "2A")])
def test_chains_of_two_letters_stay(names, ter):
    text = pdb(chain(*TEN, chain=names[0]), ter, copy(*TEN, chain=names[1]), ter)
    assert list(read(text)[0]) == [name.strip() for name in names]


def test_a_chain_of_two_letters_may_consist_of_one_kind_of_residue():
    """``LYS`` in chain HA is not ``LYSH`` in chain A."""
    assert read(pdb(chain("LYS", "LYS", "LYS", chain="HA")))[0] == {"HA": "KKK"}


def test_four_letters_and_copies_without_ter_are_told_apart():
    names = ("NMET", "LYSH", "HISE", "CSER")
    assert read(pdb(chain(*names), copy(*names)))[0] == {"A-1": "MKHS", "A-2": "MKHS"}
    blank = pdb(chain(*names, chain=" "), "TER\n", copy(*names, chain=" "), "TER\n")
    assert read(blank)[0] == {"1": "MKHS", "2": "MKHS"}


@pytest.mark.parametrize(("name", "letter"), PAIRS)
def test_every_reader_knows_the_names(name, letter):
    assert classify(name, {}) == (ResidueClass.AMINO_ACID, letter)
