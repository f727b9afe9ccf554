"""Broken and odd text: read only where nothing is lost, refused with the reason where it would be."""

import gzip
from dataclasses import replace

import pytest

from esmgn_core.io.files import UnreadableError
from esmgn_core.io.read import read_content
from esmgn_core.io.write import mmcif_text
from esmgn_core.testing import example_proteins

from .made_up import CALCIUM, DNA, FREE_ASN, WATER, ca, chain, cif, pdb, residue

# Broken files


@pytest.mark.parametrize("column", [31, 40, 53])
def test_an_atom_line_cut_inside_the_coordinates_is_refused_with_its_number(read, column):
    text = pdb("REMARK 1\n", chain("ALA", "GLY"))
    lines = text.splitlines(keepends=True)
    cut = "".join(lines[:5]) + lines[5][:column]
    assert read.refuses(cut) == "line 6 is cut off inside the coordinates"


def test_an_atom_line_cut_behind_the_coordinates_is_read(read):
    lines = [atom.pdb[:54] + "\n" for atom in chain("ALA", "GLY")]
    assert len(read("".join(lines))) == 2


@pytest.mark.parametrize(
    "field",
    [
        "********",
        "        ",
        "   1.2.3",
        "  12,345",
        "   1 2.3",
        "     abc",
        "       -",
        "  12-3.4",
        "       .",
        "   -.-  ",
    ],
)
def test_coordinates_that_are_no_numbers_are_refused_with_line_and_text(read, field):
    """Parsers that read such a field as zero put the atom at the origin."""
    lines = pdb(chain("ALA", "GLY")).splitlines(keepends=True)
    lines[2] = lines[2][:38] + field + lines[2][46:]
    reason = read.refuses("".join(lines))
    assert reason.startswith("line 3: coordinates are not numbers")
    assert field in reason


def test_columns_shifted_by_one_are_refused(read):
    """Atom serial numbers above 99999 push the rest of the line to the right in some programs' files."""
    lines = pdb(chain("ALA", "GLY")).splitlines(keepends=True)
    assert "line 8" in read.refuses("".join(lines[:7]) + "ATOM  100000" + lines[7][11:])


def test_a_broken_line_behind_the_first_model_does_no_harm(read):
    model = "MODEL        1\n" + pdb(chain("ALA", "GLY")) + "ENDMDL\n"
    assert len(read(model + "MODEL        2\n" + chain("ALA")[0].pdb[:40])) == 2


def test_mmcif_cut_inside_a_row_is_refused(read):
    assert "Wrong number of values" in read.refuses(cif(chain("ALA", "GLY"))[:-30], "cut.cif")


def test_mmcif_coordinates_that_are_no_numbers_drop_the_residue(read):
    text = cif(chain("ALA", "GLY", "SER"))
    x = f"{ca(2)[0]:.3f}"
    assert read(text.replace(f" A {x} ", " A ? ")).sequence == "AS"
    assert read.report.without_ca == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HEADER    VIRAL PROTEIN\nEND\n", "no ATOM or HETATM record"),
        ("once upon a time\n", "no ATOM or HETATM record"),
        (pdb(DNA), "no protein residue, only 1 nucleotide"),
        (pdb([WATER]), "no protein residue, only 1 water"),
        (pdb([CALCIUM, WATER]), "no protein residue, only 1 water and 1 ligand"),
        (pdb(FREE_ASN), "no protein residue, only 1 free amino acid"),
        (pdb(residue(1, atoms=("N", "C"))), "no CA atom in any of its amino-acid residues (1)"),
        ("data_x\n_entry.id x\n", "the mmCIF text has no atoms (no _atom_site table)"),
    ],
)  # fmt: skip
def test_files_without_a_protein_are_refused_with_the_reason(read, text, reason):
    assert read.refuses(text) == reason


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends_do_not_matter(read, ending):
    text = "MODEL        1\n" + pdb(chain("MET", "LYS"), "TER\n") + "ENDMDL\nEND\n"
    assert read(text.replace("\n", ending)).sequence == "MK"


def test_a_byte_order_mark_and_non_ascii_remarks_do_not_matter(read):
    assert read(b"\xef\xbb\xbf" + pdb(chain("MET", "LYS")).encode()).atom_mask.all()
    assert read(b"\xef\xbb\xbf" + cif(chain("MET", "LYS")).encode()).sequence == "MK"
    text = "REMARK 1 J. M\u00fcller, 2 \u00c5\n" + pdb(chain("MET", "LYS"))
    assert read(text).sequence == "MK"
    assert read(text.encode("latin-1")).sequence == "MK"


def test_names_that_are_not_ascii_do_not_matter(read):
    """Neither in Latin-1, which gemmi cannot decode, nor in UTF-8."""
    text = pdb(chain("MET", "LYS", chain="\u00e9"))
    assert read(text.encode("latin-1")).sequence == "MK"
    assert read(cif(chain("MET", "LYS", chain="\u00e9"))).sequence == "MK"


def test_atom_names_longer_than_gemmi_handles_are_refused(read):
    assert "gemmi cannot read it" in read.refuses(cif([*residue(1), replace(WATER, name="OXYGENATOM")]))


def test_text_after_end_is_another_structure(read):
    assert read(pdb(chain("MET", "LYS"), "END\n", chain("TRP", start=3))).sequence == "MK"


@pytest.mark.parametrize("name", ["a.pdb", "a.ent", "a.pdb.gz", "a.cif", "a.cif.gz", "a.txt", "a"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["pdb", "mmcif"])
def test_content_decides_the_format_whatever_the_name_says(read, name, packed, form):
    atoms = chain("MET", "LYS")
    text = (pdb(atoms) if form == "pdb" else cif(atoms)).encode()
    assert read(gzip.compress(text) if packed else text, name).sequence == "MK"
    assert read.report.format == form


def test_a_table_of_atoms_with_a_column_of_another_category_is_refused():
    text = mmcif_text(example_proteins()[0]).replace("_atom_site.occupancy", "_atomxsite.occupancy")
    text = text.replace("_atom_site.label_alt_id", "_atom_site.odd")  # a column that would be added
    with pytest.raises(UnreadableError):
        read_content(text.encode(), "a.cif")


def test_an_atom_line_of_few_fields_is_no_pqr():
    with pytest.raises(UnreadableError):
        read_content(b"ATOM  \n" + b"ATOM        1\n" * 3, "a.pdb")


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (9999.0, 9999.0, 9999.0)])
def test_a_protein_at_one_place_has_no_coordinates(read, place):
    """As programs write it that know a sequence and no structure."""
    atoms = [replace(atom, position=place) for atom in chain("ALA", "GLY", "SER")]
    for text in (pdb(atoms), cif(atoms)):
        assert "all 3 CA atoms have the same coordinates" in read.refuses(text)
