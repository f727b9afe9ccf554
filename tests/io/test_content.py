"""What a protein takes from a file: coordinates, numbers, chains, models."""

import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.io import read_protein

from .made_up import ca, chain, cif, pdb, residue


def both_formats(atoms):
    return [pytest.param(pdb(atoms), id="pdb"), pytest.param(cif(atoms), id="mmcif")]


@pytest.mark.parametrize("text", both_formats(chain("MET", "LYS", "TRP", start=11)))
def test_coordinates_types_and_numbers_are_those_of_the_file(read, text):
    protein = read(text)
    assert protein.sequence == "MKW"
    assert protein.name == "made_up"
    assert protein.residue_index.tolist() == [11, 12, 13]
    assert protein.insertion_code.tolist() == [32, 32, 32]
    assert protein.chains == ("A",)
    assert protein.chain_index.tolist() == [0, 0, 0]
    assert protein.atom_mask.all()
    assert protein.plddt is None
    expected = torch.tensor([ca(11), ca(12), ca(13)])
    torch.testing.assert_close(protein.backbone[:, 1], expected, atol=6e-4, rtol=0)


def test_tensors_have_the_promised_types(read):
    protein = read("PARENT N/A\n" + pdb(chain("MET", "LYS")))
    assert protein.residue_type.dtype == torch.int64
    assert protein.backbone.dtype == torch.float32
    assert protein.atom_mask.dtype == torch.bool
    assert protein.residue_index.dtype == torch.int64
    assert protein.chain_index.dtype == torch.int64
    assert protein.insertion_code.dtype == torch.uint8
    assert protein.plddt.dtype == torch.float32


def test_atoms_that_are_missing_are_nan_and_masked(read):
    protein = read(pdb(residue(1), residue(2, atoms=("N", "CA")), residue(3, atoms=("CA", "C", "O"))))
    assert protein.atom_mask.tolist() == [[True] * 4, [True, True, False, False], [False, True, True, True]]
    assert torch.equal(protein.backbone.isnan().any(-1), ~protein.atom_mask)


def test_an_atom_with_a_coordinate_that_is_not_finite_is_missing(read):
    atoms = residue(1)
    line = atoms[3].pdb
    protein = read(pdb(atoms[:3]) + line[:30] + "     nan" + line[38:])
    assert protein.atom_mask.tolist() == [[True, True, True, False]]
    assert protein.backbone[0, 3].isnan().all()


@pytest.mark.parametrize("text", both_formats([*chain("ALA", "GLY"), *residue(3, number=2, icode="B")]))
def test_insertion_codes_tell_residues_of_one_number_apart(read, text):
    protein = read(text)
    assert protein.residue_index.tolist() == [1, 2, 2]
    assert protein.insertion_code.tolist() == [32, 32, ord("B")]


def test_negative_residue_numbers(read):
    assert read(pdb(chain("GLY", "SER", start=-2))).residue_index.tolist() == [-2, -1]


def test_chains_keep_the_names_of_the_file_and_their_order(read):
    protein = read(pdb(chain("ALA", "GLY", chain="L"), "TER\n", chain("SER", chain="H", start=9), "TER\n"))
    assert protein.chains == ("L", "H")
    assert protein.chain_index.tolist() == [0, 0, 1]


def test_parts_of_a_chain_are_put_together(read):
    """Files list ligands, and sometimes residues, of a chain behind those of other chains."""
    atoms = [*chain("ALA", chain="A"), *chain("SER", chain="B"), *chain("GLY", chain="A", start=2)]
    for text in (pdb(atoms), cif(atoms)):
        protein = read(text)
        assert protein.chains == ("A", "B")
        assert protein.sequence == "AGS"
        assert protein.chain_index.tolist() == [0, 0, 1]


def test_chain_names_in_mmcif_may_be_long(read):
    name = "HEAVYCHAIN_1"
    protein = read(cif([*chain("ALA", "GLY", chain=name), *chain("SER", chain="B")]))
    assert protein.chains == (name, "B")
    assert protein.sequence == "AGS"


def test_mmcif_chains_and_numbers_are_the_authors(read):
    text = cif(chain("ALA", "GLY")).replace(" A 1 1 1 . A ", " X 1 1 101 . A ")
    assert read(text).residue_index.tolist() == [101, 2]
    assert read(text).chains == ("A",)


def test_only_the_first_model_is_read(read):
    models = [f"MODEL     {i}\n{pdb(chain('ALA', 'GLY', shift=float(i)))}ENDMDL\n" for i in (1, 2, 3)]
    protein = read("".join(models))
    assert len(protein) == 2
    torch.testing.assert_close(protein.backbone[0, 1], torch.tensor(ca(1)) + 1, atol=6e-4, rtol=0)
    assert read.report.num_models == 3


def test_blank_chains_are_divided_by_ter(read):
    text = pdb(chain("ALA", "GLY", chain=" "), "TER\n", chain("SER", "TRP", chain=" ", start=3), "TER\n")
    protein = read(text)
    assert protein.chain_index.tolist() == [0, 0, 1, 1]
    assert protein.chains == ("1", "2")


def test_a_chain_name_used_twice_for_the_same_numbers_is_two_chains(read):
    first, second = chain("ALA", "GLY"), chain("ALA", "GLY", shift=30.0)
    protein = read(pdb(first, "TER\n", second, "TER\n"))
    assert protein.sequence == "AGAG"
    assert protein.chain_index.tolist() == [0, 0, 1, 1]
    assert protein.chains == ("A-1", "A-2")


def test_what_follows_the_only_ter_of_a_chain_may_still_be_protein(read):
    assert read(pdb(chain("ALA", "GLY"), "TER\n", chain("LYS", start=9))).sequence == "AGK"


def test_copies_of_a_chain_under_one_author_name_take_their_label_names(read):
    def relabelled(atom):
        return atom.cif.replace(f" {atom.residue} A ", f" {atom.residue} B ", 1)

    first, second = chain("ALA", "GLY"), chain("ALA", "GLY", shift=30.0)
    protein = read(cif(first) + "".join(relabelled(atom) for atom in second))
    assert protein.sequence == "AGAG"
    assert protein.chains == ("A", "B")
    with pytest.raises(StructureError, match="2 residues of chain A occur twice at one position"):
        read(cif([*first, *first]))


def test_ter_inside_a_chain_does_not_end_it(read):
    """Some programs write TER at a chain break or beside a modified residue."""
    modified = residue(3, "SEP", record="HETATM")
    text = pdb(chain("ALA", "GLY"), "TER\n", modified, chain("LYS", start=4), "TER\n", chain("TRP", start=9))
    protein = read(text)
    assert protein.sequence == "AGSKW"
    assert protein.chains == ("A",)


def test_named_chains_beside_blank_ones_are_put_together_again(read):
    parts = [("ALA", "B", 1), ("SER", " ", 1), ("GLY", "B", 2), ("TRP", " ", 2)]
    protein = read(pdb(*(p for n, c, i in parts for p in (chain(n, chain=c, start=i), "TER\n"))))
    assert protein.chains == ("B", "1", "2")
    assert protein.sequence == "AGSW"
    assert protein.chain_index.tolist() == [0, 0, 1, 2]


def test_a_protein_takes_the_name_it_is_given(tmp_path):
    path = tmp_path / "a.pdb"
    path.write_text(pdb(chain("ALA")))
    assert read_protein(path, name="mine").name == "mine"
