"""Hard and broken files from public repositories, each with what is to be read from it.

The expectations were taken from the files themselves (CA records, altloc labels, TER and MODEL records),
not from this reader.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.io import find_structures, read_structure

EDGE = Path(__file__).parents[3] / "shared" / "data" / "structures" / "edge"
pytestmark = pytest.mark.skipif(not EDGE.is_dir(), reason=f"needs the structure files in {EDGE}")


@dataclass(frozen=True)
class Read:
    """What a file holds: residues per chain, first letters, CA of the first residue in angstrom."""

    chains: tuple[tuple[str, int], ...]
    start: str
    first_ca: tuple[float, float, float]
    numbers: tuple[int, int] | None = None
    inserted: int = 0
    missing_atoms: int = 0
    without_ca: int = 0
    left_out: int = 0
    num_models: int = 1
    modified: tuple[tuple[str, str], ...] = ()
    unknown: tuple[tuple[str, int], ...] = ()
    mmcif: bool = False


CRAMBIN = (16.967, 12.784, 4.338)
HIV_CAPSID = (20.255, 33.101, 26.891)
MSE = (("MSE", "M"),)


def crambin(length=46, start="TTCCPSIV", numbers=(1, 46), **rest):
    return Read((("A", length),), start, CRAMBIN, numbers, **rest)


def capsid(**rest):
    """1A8O: 70 residues 151-220, four of them MSE, 88 waters."""
    return Read((("A", 70),), "MDIRQGPK", HIV_CAPSID, (151, 220), left_out=88, modified=MSE, **rest)


EXPECTED: dict[str, Read | str] = {
    # chains
    "multichain_6pp9.pdb.gz": Read(
        (("A", 276), ("B", 314)), "SDDWEIPD", (25.12, -49.32, 4.096), missing_atoms=1
    ),
    "mmcif_four_letter_chain.cif.gz": Read(
        (("ABCD", 46),), "MDFNPSEV", (2.295, -32.499, 43.313), (1, 46), mmcif=True
    ),
    # blank chain, two dipeptides divided by TER, then sodium and water; GLN 4 ends in OXT without O
    "no_chain_name_ter_records.pdb.gz": Read(
        (("1", 2), ("2", 2)), "ETGQ", (6.268, -17.344, 19.571), (1, 4), missing_atoms=1, left_out=5
    ),
    # residue numbers
    "insertion_codes_1a4w.pdb.gz": Read(
        (("L", 26), ("H", 248), ("I", 9)), "DCGLRPLF", (10.07, 18.634, 19.379), inserted=35, left_out=163,
        modified=(("TYS", "Y"),),
    ),
    "insertion_codes_1orc.pdb.gz": Read(
        (("A", 64),), "QRITLKDY", (12.632, 37.265, 8.163), (3, 61), inserted=5, left_out=57
    ),
    "unordered_residues.pdb.gz": Read(
        (("X", 35),), "LSDEDFKA", (-15.54, 10.82, 11.99), (42, 76), inserted=35,
        modified=(("NLE", "L"), ("HIP", "H")),
    ),
    "negative_residue_numbers_3fhk.pdb.gz": Read(
        (("A", 147),), "SNAMSMAY", (64.433, 22.189, -10.655), (-2, 144)
    ),
    "res_ids.cif": Read((("A", 3),), "SDQ", (26.575, 33.05, 20.472), (0, 2), left_out=18, mmcif=True),
    # alternate locations: the most occupied conformer, one residue per number
    "altloc_1en2.pdb.gz": Read(
        (("A", 86),), "ERCGSQGG", (-0.993, 2.924, 13.16), (1, 86), left_out=80, modified=(("PCA", "E"),)
    ),
    "altloc_microheterogeneity_1ejg.pdb.gz": Read(
        (("A", 46),), "TTCCPSIV", (16.938, 12.834, 4.234), (1, 46)
    ),
    # SER A 0.2, SER B 0.2, PRO C 0.6
    "altloc.cif": Read((("A", 1),), "P", (6.035, 13.459, -2.622), (22, 22), mmcif=True),
    "disordered.pdb.gz": Read((("A", 6),), "MSRNTT", (51.216, 19.092, 28.509), (25, 30)),
    # modified residues
    "mse_1a8o.pdb.gz": capsid(),
    "mse_1a8o.cif.gz": capsid(mmcif=True),
    "selenocysteine_4ko2.pdb.gz": Read(
        (("S", 279), ("L", 489)), "AKKAPVIW", (48.375, -5.292, 13.062), left_out=959,
        modified=(("SEC", "C"),),
    ),
    "phosphotyrosine_1jyr.pdb.gz": Read(
        (("A", 96), ("L", 9)), "GSMAWFFG", (20.009, 15.1, -6.5), left_out=90, modified=(("PTR", "Y"),)
    ),
    # TER beside every phosphorylated residue, water without chain name
    "phosphoserine_1xh4.pdb.gz": Read(
        (("A", 337), ("B", 20)), "SVKEFLAK", (3.537, 57.836, 77.395), left_out=116,
        modified=(("SEP", "S"), ("TPO", "T")),
    ),
    "unk_6klp.pdb.gz": Read(
        (("B", 133), ("A", 135)), "XXXXXXXX", (179.539, 158.471, 240.41), unknown=(("UNK", 268),)
    ),
    # with nucleic acids: two DNA strands and two cyclic peptides of five; RNA; DNA
    "d_amino_acids_with_dna_209d.cif": Read(
        (("C", 10),), "TVPGVTVPGV", (4.114, 19.994, 10.022), (1, 11), left_out=17,
        modified=(("DVA", "V"), ("SAR", "G"), ("MVA", "V")), mmcif=True,
    ),
    "protein_rna_1dul.cif.gz": Read(
        (("A", 69),), "FDLNDFLE", (29.56, 36.633, 2.622), (1, 82), left_out=355, modified=MSE, mmcif=True
    ),
    "protein_dna_1lcd.pdb.gz": Read(
        (("A", 51),), "MKPVTLYD", (27.91, 28.67, 6.97), (1, 51), left_out=72, num_models=3
    ),
    # models
    "nmr_20_models_1lvz.pdb.gz": Read(
        (("A", 11),), "IRENLKDS", (3.184, 5.636, -2.863), (1, 11), num_models=20
    ),
    # the left-out residue is the NH2 cap
    "nmr_21_models_1a1p.pdb.gz": Read(
        (("A", 13),), "ICVVQDWG", (-5.843, 5.515, -0.08), (1, 13), left_out=1, num_models=21
    ),
    "multi_models_small.pdb": Read(
        (("A", 1),), "A", (68.134, 50.306, 2.066), (195, 195), left_out=3, num_models=2
    ),
    # what is and what is not an alpha carbon
    "missing_ca_residues_5db0.cif.gz": Read(
        (("A", 466),), "GLKAAQKT", (-9.098, 17.91, -0.628), without_ca=2, left_out=470, mmcif=True
    ),
    "ca_only_1ubi.pdb": Read((("A", 76),), "MQIFVKTL", (26.381, 25.361, 2.894), (1, 76), missing_atoms=228),
    "ca_only_1lzh.pdb.gz": Read(
        (("A", 129), ("B", 129)), "KVFGRCEL", (0.242, 23.458, -14.616), (1, 129), missing_atoms=774
    ),
    "calcium_named_ca.pdb": Read((("A", 1),), "A", (68.134, 50.306, 2.066), (195, 195), left_out=3),
    # columns
    "no_element_column.pdb.gz": Read((("A", 164), ("B", 14)), "GGGGGGGG", (-7.735, -14.546, 5.487), (1, 178)),
    "occupancy.pdb": Read((("A", 1),), "D", (21.835, 36.306, 28.144), (152, 152), missing_atoms=1),
    # no protein
    "one_atom_no_ca.pdb": "no CA atom in any of its amino-acid residues (1)",
    "residues_without_ca_1ssu_mod.pdb": "no CA atom in any of its amino-acid residues (2)",
    "same_resid_different_resname.pdb": "no CA atom in any of its amino-acid residues (1)",
    # 'phe' is phenol, C1 to C6
    "lower_case_resname.pdb": "no CA atom in any of its amino-acid residues (1)",
    "coarse_grained_martini.pdb": "coarse-grained beads, not atoms",
    "rna_only_1ehz_fragment.pdb": "no protein residue, only 18 nucleotides",
    "dna_only_5ch0.pdb": "no protein residue, only 6 nucleotides",
    "difficult_mmcif_quoting.cif": "no protein residue, only 1 nucleotide",
    "hetatm_only.pdb": "no protein residue, only 1 unknown residue",
    "five_digit_residue_number.pdb": "no protein residue, only 5 waters",
    "header_only.pdb": "no ATOM or HETATM record",
    # made from 1CRN (crambin) and 1A8O
    "derived/crlf_1crn.pdb": crambin(),
    "derived/duplicate_atoms_1crn.pdb": crambin(),
    "derived/zero_occupancy_1crn.pdb": crambin(),
    "derived/coincident_ca_1crn.pdb": crambin(),
    "derived/plain_text_named_gz_1crn.pdb.gz": crambin(),
    "derived/gzip_named_pdb_1crn.pdb": crambin(),
    "derived/mmcif_named_pdb_1a8o.pdb": capsid(mmcif=True),
    "derived/nan_coordinates_1crn.pdb": crambin(45, without_ca=1),
    "derived/no_ca_every_third_1crn.pdb": crambin(31, "TTCPIVRS", without_ca=15),
    "derived/two_residues_1crn.pdb": crambin(2, "TT", (1, 2)),
    "derived/single_residue_1crn.pdb": crambin(1, "T", (1, 1)),
    "derived/truncated_midline_1crn.pdb": "line 473 is cut off inside the coordinates",
    "derived/truncated_stream_1crn.pdb.gz": "the gzip stream is cut off",
    "derived/empty.pdb": "the file is empty",
    "derived/empty.pdb.gz": "the gzip file holds zero bytes",
    "derived/whitespace_only.pdb": "the file holds only white space",
    "derived/html_error_page.pdb": "an HTML page",
    "derived/random_bytes.pdb": "binary data, neither PDB nor mmCIF text",
}  # fmt: skip


def test_every_edge_file_has_an_expectation():
    assert {path.relative_to(EDGE).as_posix() for path in find_structures([EDGE])} == set(EXPECTED)


@pytest.mark.parametrize("file", [file for file, expected in EXPECTED.items() if isinstance(expected, Read)])
def test_what_can_be_read_is_read_right(file):
    expected = EXPECTED[file]
    protein, report = read_structure(EDGE / file)
    counts = protein.chain_index.bincount(minlength=len(protein.chains)).tolist()
    assert tuple(zip(protein.chains, counts, strict=True)) == expected.chains
    assert protein.sequence.startswith(expected.start)
    torch.testing.assert_close(protein.backbone[0, 1], torch.tensor(expected.first_ca), atol=6e-4, rtol=0)
    if expected.numbers:
        assert (int(protein.residue_index[0]), int(protein.residue_index[-1])) == expected.numbers
    assert int((protein.insertion_code != 32).sum()) == expected.inserted
    assert int((~protein.atom_mask).sum()) == expected.missing_atoms
    assert protein.plddt is None
    assert report.without_ca == expected.without_ca
    assert report.left_out == expected.left_out
    assert report.num_models == expected.num_models
    assert report.modified == dict(expected.modified)
    assert report.unknown == dict(expected.unknown)
    assert report.format == ("mmcif" if expected.mmcif else "pdb")


@pytest.mark.parametrize("file", [file for file, expected in EXPECTED.items() if isinstance(expected, str)])
def test_what_cannot_be_read_is_refused_with_the_reason(file):
    with pytest.raises(StructureError) as error:
        read_structure(EDGE / file)
    assert str(error.value).startswith(f"cannot read {EDGE / file}: {EXPECTED[file]}")


def test_both_formats_of_one_entry_give_one_protein():
    one, two = (read_structure(EDGE / f"mse_1a8o.{ending}.gz")[0] for ending in ("pdb", "cif"))
    assert torch.equal(one.backbone, two.backbone)
    assert torch.equal(one.residue_type, two.residue_type)


def test_the_damage_done_to_crambin_is_all_that_changes():
    def backbone(name):
        return read_structure(EDGE / "derived" / f"{name}_1crn.pdb")[0].backbone

    whole = backbone("crlf")
    for same in ("duplicate_atoms", "zero_occupancy", "gzip_named_pdb"):
        assert torch.equal(backbone(same), whole)
    assert torch.equal(backbone("nan_coordinates"), torch.cat([whole[:9], whole[10:]]))
    assert torch.equal(backbone("no_ca_every_third"), whole[[i for i in range(46) if (i + 1) % 3]])
    collapsed = backbone("coincident_ca")
    assert torch.equal(collapsed[:19], whole[:19])
    assert torch.equal(collapsed[19:25, 1], collapsed[19:20, 1].expand(6, 3))


def test_conformers_of_1en2_are_the_most_occupied_ones():
    """Residue 10: SER 0.33, GLY 0.67; 14: GLY 0.44, ALA 0.56; 16: ARG 0.22 twice, TRP 0.56."""
    protein = read_structure(EDGE / "altloc_1en2.pdb.gz")[0]
    letters = dict(zip(protein.residue_index.tolist(), protein.sequence, strict=True))
    assert [letters[number] for number in (10, 14, 16, 79, 80, 81)] == list("GAWGSK")
    row = protein.residue_index.tolist().index(79)  # GLY 0.56, GLY 0.44
    torch.testing.assert_close(
        protein.backbone[row, 1], torch.tensor([9.821, -11.505, 25.585]), atol=6e-4, rtol=0
    )
