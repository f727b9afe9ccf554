"""Chains that share a name are divided; other chains are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esmgn_core.alphabet import decode
from esmgn_core.io.atom3d import atoms_to_protein
from esmgn_core.io.copies import unique_names
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.read import read_content
from esmgn_core.io.trajectory import frame
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.store.export import export_structures

from .made_up import BACKBONE, chain, cif, pdb, residue

CASES = Path(__file__).parents[3] / "shared" / "cases"
TEN = ("MET", "LYS", "HIS", "LEU", "ALA", "GLU", "ASP", "CYS", "LYS", "SER")
OTHER = ("GLY", "GLY", "HIS", "TRP", "TYR", "ARG", "VAL", "LEU", "LYS", "GLU")
FIRST, SECOND = "MKHLAEDCKS", "GGHWYRVLKE"
CA_ONLY = ("CA",)
REPEATS = "chains found by residues that repeat under one chain name: {}"


def read(text: str | bytes, name: str = "x.pdb"):
    """Sequence of each chain, and the notes."""
    content = text if isinstance(text, bytes) else text.encode()
    reading = read_content(content, name)
    residues = reading.residues
    found = {
        chain: decode(residues.residue_type[residues.chain == number].tolist())
        for number, chain in enumerate(residues.chains)
    }
    assert len(found) == len(residues.chains), "a chain name is there twice"
    assert [account.name for account in reading.chains()] == list(found)
    return found, reading.report.notes


def copy(*names, **changes):
    return chain(*names, **{"shift": 30.0, **changes})


def interleaved(first, second, size):
    turns = range(0, len(first), size)
    return [atom for at in turns for half in (first, second) for atom in half[at : at + size]]


@pytest.mark.parametrize("name", ["A", " "])
@pytest.mark.parametrize("atoms", [BACKBONE, CA_ONLY])
@pytest.mark.parametrize(("names", "letters"), [(TEN, FIRST), (OTHER, SECOND)])
def test_a_second_chain_of_the_same_numbers_is_found(name, atoms, names, letters):
    text = pdb(chain(*TEN, chain=name, atoms=atoms), copy(*names, chain=name, atoms=atoms), "END\n")
    first, second = ("A-1", "A-2") if name == "A" else ("1", "2")
    assert read(text) == ({first: FIRST, second: letters}, (REPEATS.format(1),))


@pytest.mark.parametrize(
    ("size", "names", "letters"),
    [(1, TEN, FIRST), (4, TEN, FIRST), (4, OTHER, SECOND)],
    ids=["atom by atom", "residue by residue", "other residues"],
)
def test_copies_that_take_turns_are_found(size, names, letters):
    text = pdb(interleaved(chain(*TEN), copy(*names), size))
    assert read(text)[0] == {"A-1": FIRST, "A-2": letters}


def test_copies_that_take_turns_go_on_behind_a_gap():
    with_gap = [atom for atom in chain(*TEN) if atom.number not in (5, 6)]
    moved = [atom for atom in copy(*TEN) if atom.number not in (5, 6)]
    text = pdb(interleaved(with_gap, moved, 4))
    assert read(text)[0] == {"A-1": "MKHLDCKS", "A-2": "MKHLDCKS"}


def test_a_copy_keeps_residues_that_the_first_one_lacks():
    text = pdb(chain(*TEN[2:8], start=3), copy(*TEN))
    assert read(text)[0] == {"A-1": "HLAEDC", "A-2": FIRST}


@pytest.mark.parametrize("count", [3, 12])
def test_many_copies_are_numbered_in_order(count):
    text = pdb(*(chain(*TEN, shift=30.0 * number) for number in range(count)))
    assert read(text)[0] == {f"A-{number + 1}": FIRST for number in range(count)}


def test_chains_that_come_back_are_copies_or_go_on():
    """A, B, A: the same numbers are another chain, further numbers are not."""
    between = copy("VAL", "VAL", chain="B", shift=60.0)
    assert read(pdb(chain(*TEN), between, copy(*TEN)))[0] == {"A-1": FIRST, "B": "VV", "A-2": FIRST}
    assert read(pdb(chain(*TEN[:5]), between, chain(*TEN[5:], start=6)))[0] == {"A": FIRST, "B": "VV"}


@pytest.mark.parametrize("name", ["A", " "])
def test_ter_divides_chains_of_one_name(name):
    text = pdb(chain(*TEN, chain=name), "TER\n", copy(*OTHER, chain=name), "TER\n")
    assert list(read(text)[0].values()) == [FIRST, SECOND]


def test_ter_in_a_gap_divides_nothing_where_there_is_a_name():
    text = pdb(chain(*TEN[:4]), "TER\n", chain(*TEN[5:], start=6), "TER\n")
    assert read(text) == ({"A": "MKHLEDCKS"}, ())


def test_blank_chains_with_ter_and_consecutive_numbers_are_divided():
    """As Amber writes them, with a water behind the last TER."""
    second = copy(*OTHER, chain=" ", start=11)
    water = residue(30, "HOH", ("O",), chain=" ")
    text = pdb(chain(*TEN, chain=" "), "TER\n", second, "TER\n", water, "TER\nEND\n")
    assert read(text)[0] == {"1": FIRST, "2": SECOND}


SEGMENTS = "chains distinguished by segment identifiers alone: {}"


@pytest.mark.parametrize("start", [1, 11, 50])
def test_segments_divide_a_chain(start):
    """As psfgen and CHARMM-GUI write chains, whatever the numbers."""
    second = chain(*OTHER, start=start, shift=40.0, chain="P", segment="PROB")
    text = pdb(chain(*TEN, chain="P", segment="PROA"), second)
    assert read(text) == ({"P-1": FIRST, "P-2": SECOND}, (SEGMENTS.format(1),))


def test_blank_chains_are_named_after_their_segments():
    second = copy(*TEN, chain=" ", segment="PROB")
    assert read(pdb(chain(*TEN, chain=" ", segment="PROA"), second))[0] == {"PROA": FIRST, "PROB": FIRST}


def test_a_segment_that_comes_back_goes_on():
    text = pdb(
        chain(*TEN[:5], segment="PROA"),
        copy(*TEN[:5], segment="PROB"),
        chain(*TEN[7:], start=8, segment="PROA"),
        copy(*TEN[7:], start=8, segment="PROB"),
    )
    assert read(text)[0] == {"A-1": "MKHLACKS", "A-2": "MKHLACKS"}


def test_a_segment_that_varies_in_a_bonded_chain_divides_nothing():
    atoms = [*chain(*TEN[:5], segment="A1"), *chain(*TEN[5:], start=6, segment="A2")]
    assert read(pdb(atoms)) == ({"A": FIRST}, ())
    half = [atom if atom.name in ("N", "CA") else replace(atom, segment="") for atom in atoms]
    assert read(pdb(half)) == ({"A": FIRST}, ()), "some atoms of each residue without a segment"


def labelled(i, name, label, **changes):
    return residue(i, name, altloc=label, occupancy=0.5, **changes)


@pytest.mark.parametrize(
    "fourth",
    [
        [*labelled(4, "LEU", "A"), *labelled(4, "LEU", "B", shift=1.0)],
        [*labelled(4, "LEU", "A"), *labelled(4, "ILE", "B", shift=1.0)],
        [*residue(4, "LEU"), *residue(12, "GLY", number=4, icode="A")][:4],
        [*residue(4, "LEU"), *residue(4, "LEU", ("CB",))],
    ],
    ids=["conformers", "microheterogeneity", "a single one", "a side chain of its own"],
)
def test_what_is_one_residue_is_not_divided(fourth):
    text = pdb(chain(*TEN[:3]), fourth, chain(*TEN[4:], start=5))
    assert read(text) == ({"A": FIRST}, ())


def test_conformers_that_follow_as_whole_chains_are_one_chain():
    text = pdb(chain(*TEN, altloc="A"), chain(*TEN, altloc="B", shift=1.0))
    assert read(text) == ({"A": FIRST}, ())


def test_insertion_codes_are_numbers_of_their_own():
    inserted = [residue(10 + k, "GLY", number=10, icode=code) for k, code in enumerate("ABC", 1)]
    assert read(pdb(chain(*TEN), *inserted)) == ({"A": FIRST + "GGG"}, ())


def test_waters_with_the_numbers_of_residues_divide_nothing():
    waters = [atom for i in range(1, 11) for atom in residue(i, "HOH", ("O",), record="HETATM", shift=9.0)]
    assert read(pdb(chain(*TEN), waters)) == ({"A": FIRST}, ())


def test_a_ligand_with_a_ca_atom_divides_nothing():
    ligand = residue(3, "LIG", ("CA", "CB"), record="HETATM", shift=20.0)
    assert read(pdb(chain(*TEN), ligand)) == ({"A": FIRST}, ())


ALTERNATES = "residues given twice at one position, the first of which was read: 2"


def test_unlabelled_alternates_are_noted_and_the_first_is_read():
    again = [*residue(4, "LEU", shift=0.4), *residue(5, "ALA", shift=0.4)]
    text = pdb(chain(*TEN[:3]), residue(4, "LEU"), residue(5, "ALA"), again, chain(*TEN[5:], start=6))
    assert read(text) == ({"A": FIRST}, (ALTERNATES,))


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_two_models_without_model_records_are_refused(shift):
    with pytest.raises(UnreadableError, match="10 residues of chain A occur twice at one position"):
        read(pdb(chain(*TEN), chain(*TEN, shift=shift)))


@pytest.mark.skipif(not CASES.is_dir(), reason=f"needs {CASES}")
@pytest.mark.parametrize(
    ("file", "chains"),
    [
        ("chain-name-twice-is-unaddressable/ter_same.pdb", {"A-1": FIRST, "A-2": SECOND}),
        ("chain-name-twice-is-unaddressable/same_ABA.pdb", {"A-1": FIRST, "B": "VVVVV", "A-2": FIRST}),
        ("psfgen-segments/seg_homo.pdb", {"P-1": FIRST, "P-2": FIRST}),
        ("psfgen-segments/seg.pdb", {"P-1": FIRST, "P-2": "GGTWYRV"}),
        ("psfgen-segments/seg_cont.pdb", {"P-1": FIRST, "P-2": "GGTWYRV"}),
        ("psfgen-segments/seg_blank.pdb", {"PROA": FIRST, "PROB": FIRST}),
        ("end-between-chains/end_between.pdb", {"A": FIRST}),
        ("modified-residues-and-caps/mods.pdb", {"A": "ECDEFPHKKM"}),
        ("modified-residues-and-caps/caps.pdb", {"A": "MKHLA"}),
        ("modified-residues-and-caps/ros.pdb", {"A": FIRST}),
        ("modified-residues-and-caps/water_same.pdb", {"A": FIRST}),
        *((f"hybrid36-and-friends/{name}.pdb", {"A": FIRST}) for name in ("h36", "h36res", "hex", "hexres")),
        *((f"hybrid36-and-friends/{name}.pdb", {"A": FIRST}) for name in ("stars", "vmd6", "wrap")),
    ],
)
def test_files_of_others(file, chains):
    assert read((CASES / file).read_bytes())[0] == chains


def with_label(atoms, label):
    """mmCIF lines whose ``label_asym_id`` is ``label``."""
    return "".join(
        atom.cif.replace(f" {atom.residue} {atom.chain} ", f" {atom.residue} {label} ", 1) for atom in atoms
    )


@pytest.mark.parametrize("atoms", [BACKBONE, CA_ONLY])
@pytest.mark.parametrize(("names", "letters"), [(TEN, FIRST), (OTHER, SECOND)])
def test_copies_in_mmcif_are_found_without_labels_of_their_own(names, letters, atoms):
    text = cif([*chain(*TEN, atoms=atoms), *copy(*names, atoms=atoms)])
    assert read(text, "x.cif") == ({"A-1": FIRST, "A-2": letters}, (REPEATS.format(1),))


def test_proteins_under_one_author_name_are_divided_by_their_labels():
    second = chain(*OTHER, start=11, shift=40.0)
    text = cif([]) + with_label(chain(*TEN), "PROA") + with_label(second, "PROB")
    assert read(text, "x.cif") == ({"A-1": FIRST, "A-2": SECOND}, (SEGMENTS.format(1),))


def test_labels_of_ligands_and_of_bonded_residues_divide_no_mmcif_chain():
    ligand = residue(12, "GLY", record="HETATM", shift=20.0)
    bonded = with_label(chain(*TEN[:5]), "A") + with_label(chain(*TEN[5:], start=6), "B")
    assert read(cif([]) + bonded + with_label(ligand, "C"), "x.cif") == ({"A": FIRST}, ())


def test_two_models_in_one_mmcif_chain_are_refused():
    with pytest.raises(UnreadableError, match="10 residues of chain A occur twice at one position"):
        read(cif([*chain(*TEN), *chain(*TEN)]), "x.cif")


def test_four_letters_are_read_in_mmcif():
    assert read(cif(chain("NMET", "LYSH", "HISE", "CSER")), "x.cif")[0] == {"A": "MKHS"}


def table(atoms, **more):
    """The same as a table of atoms of ATOM3D."""
    columns = {
        "chain": [atom.chain for atom in atoms],
        "hetero": [" " for _ in atoms],
        "insertion_code": [atom.icode for atom in atoms],
        "residue": [atom.number for atom in atoms],
        "resname": [atom.residue for atom in atoms],
        "name": [atom.name for atom in atoms],
        "altloc": [atom.altloc for atom in atoms],
        "element": [atom.name[0] for atom in atoms],
    }
    return columns | {axis: [atom.position[k] for atom in atoms] for k, axis in enumerate("xyz")} | more


def test_copies_in_tables_of_atom3d_are_found():
    protein = atoms_to_protein(table([*chain(*TEN), *copy(*OTHER)]), "x")
    assert protein.chains == ("A-1", "A-2")
    assert protein.sequence == FIRST + SECOND
    assert protein.notes == (REPEATS.format(1),)
    models = table(2 * chain(*TEN), model=[0] * 40 + [1] * 40)
    assert atoms_to_protein(models, "x").notes == ("models after the first were not read: 1",)


def test_copies_come_back_from_an_export(tmp_path):
    (tmp_path / "x.pdb").write_text(pdb(chain(*TEN), "TER\n", copy(*OTHER), "TER\n"))
    build([str(tmp_path / "x.pdb")], tmp_path / "store", BuildOptions())
    assert export_structures(Store(tmp_path / "store"), None, tmp_path / "out", "cif") == 1
    assert read((tmp_path / "out" / "x.cif").read_bytes(), "x.cif") == ({"A-1": FIRST, "A-2": SECOND}, ())


def test_stores_written_before_give_unique_names(tmp_path, monkeypatch):
    text = pdb(chain(*TEN), "TER\n", copy(*OTHER), "TER\n")
    (tmp_path / "x.pdb").write_text(text)
    monkeypatch.setattr("esmgn_core.io.arrays.unique_names", tuple)  # as it was
    build([str(tmp_path / "x.pdb")], tmp_path / "store", BuildOptions())
    assert b"x\0A\0A" in b"".join(file.read_bytes() for file in tmp_path.rglob("*.safetensors"))
    store = Store(tmp_path / "store")
    assert store[0].chains == ("A-1", "A-2")
    assert store.index(["chains"]).column("chains").to_pylist() == ["A-1 A-2"]


def test_a_topology_with_chains_of_one_name_has_unique_names(tmp_path):
    topology = tmp_path / "x.pdb"
    topology.write_text(pdb(chain(*TEN), "TER\n", copy(*OTHER), "TER\nEND\n"))
    mdtraj = pytest.importorskip("mdtraj")
    mdtraj.load(str(topology)).save(str(tmp_path / "x.xtc"))
    assert frame(tmp_path / "x.xtc", topology, 0).chains == ("A-1", "A-2")


def test_names_are_unique_and_none_is_taken_from_another_chain():
    assert unique_names(["A", "B"]) == ("A", "B")
    assert unique_names(["A", "B", "A", "A-1"]) == ("A-2", "B", "A-3", "A-1")
    assert unique_names(["", "1", ""]) == ("2", "1", "3")


def renumbered(atoms, numbers):
    """The atoms with other residue numbers, one for each residue."""
    order = {number: place for place, number in enumerate(dict.fromkeys(atom.number for atom in atoms))}
    return [replace(atom, number=numbers[order[atom.number]]) for atom in atoms]


@pytest.mark.parametrize("name", ["A", " "])
@pytest.mark.parametrize("form", [pdb, cif])
def test_a_bonded_chain_goes_on_whatever_its_numbers(form, name):
    """Kabat numbering without insertion codes: the chain and the order of its residues stay."""
    if form is cif and name == " ":
        pytest.skip("chains of mmCIF have names")
    atoms = renumbered(chain(*TEN, chain=name), [50, 51, 52, 52, 52, 53, 82, 82, 82, 83])
    found, notes = read(form(atoms))
    assert found == {name.strip(): FIRST}
    assert notes == ("residues that have the number of another residue of their chain: 4",)


def test_two_copies_of_a_chain_with_repeated_numbers_are_two_chains():
    numbers = [50, 51, 52, 52, 52, 53, 82, 82, 82, 83]
    text = pdb(renumbered(chain(*TEN), numbers), "TER\n", renumbered(copy(*TEN), numbers), "TER\n")
    assert read(text)[0] == {"A-1": FIRST, "A-2": FIRST}


def test_bonded_residues_of_one_number_and_name_are_refused():
    """gemmi would read them as one residue."""
    atoms = renumbered(chain("MET", "GLY", "GLY", "ALA"), [50, 52, 52, 53])
    with pytest.raises(UnreadableError, match="residue GLY 52 occurs several times in a chain whose"):
        read(pdb(atoms))


def test_numbers_that_begin_anew_divide_a_chain():
    """Four columns hold numbers up to 9,999."""
    atoms = renumbered(chain(*TEN), [9996, 9997, 9998, 9999, 0, 1, 2, 3, 9996, 9997])
    assert "".join(read(pdb(atoms))[0].values()) == FIRST


def test_residues_without_a_number_are_refused():
    text = "".join(line[:22] + "    " + line[26:] for line in pdb(chain(*TEN)).splitlines(keepends=True))
    with pytest.raises(UnreadableError, match="residue numbers are missing"):
        read(text)
