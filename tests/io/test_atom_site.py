"""mmCIF tables of atoms with few columns are read, or the column that is missing is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import read_structure

from .made_up import chain, cif, residue

CASES = Path(__file__).parents[3] / "shared" / "cases" / "mmcif-with-few-columns"
TEXT = cif(
    [
        *chain("MET", "LYS", "TRP", start=11, chain="A"),
        *chain("GLY", "SER", chain="B", start=5),
        *residue(9, "HOH", atoms=("O",), record="HETATM", chain="B"),
    ]
)
TAGS = re.findall(r"_atom_site\.(\w+)", TEXT)
ROWS = [line.split() for line in TEXT.splitlines() if line.startswith(("ATOM", "HETATM"))]
DERIVED = ("id", "type_symbol", "label_alt_id", "label_asym_id")


def table(*, without=(), renamed=()):
    """The text without some columns, and with label columns renamed to those of the author."""
    kept = [number for number, tag in enumerate(TAGS) if tag not in without]
    tags = [TAGS[number] for number in kept]
    tags = [tag.replace("label_", "auth_") if tag in renamed else tag for tag in tags]
    rows = [" ".join(row[number] for number in kept) for row in ROWS]
    return "\n".join(["data_x", "loop_", *(f"_atom_site.{tag}" for tag in tags), *rows, ""])


def same_as_whole(read, text):
    whole, protein = read(TEXT), read(text)
    assert protein.sequence == whole.sequence == "MKWGS"
    assert protein.residue_index.tolist() == [11, 12, 13, 5, 6]
    assert protein.chains == ("A", "B")
    assert (protein.backbone == whole.backbone).all()
    assert protein.atom_mask.all()


@pytest.mark.parametrize("column", [tag for tag in TAGS if tag not in ("label_atom_id", "label_comp_id")])
def test_any_one_column_may_be_missing(read, column):
    if column.startswith("Cartn"):
        pytest.skip("there is no protein without coordinates")
    same_as_whole(read, table(without=[column]))


def test_all_derived_columns_may_be_missing_at_once(read):
    optional = ("occupancy", "B_iso_or_equiv", "group_PDB", "label_entity_id", "pdbx_PDB_ins_code")
    same_as_whole(read, table(without=[*DERIVED, *optional]))
    same_as_whole(read, table(without=[*DERIVED, "label_seq_id"], renamed=["label_atom_id", "label_comp_id"]))


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (["Cartn_x"], "_atom_site.Cartn_x"),
        (["Cartn_y", "Cartn_z"], "_atom_site.Cartn_y, _atom_site.Cartn_z"),
        (["label_atom_id"], "_atom_site.label_atom_id or auth_atom_id"),
        (["label_comp_id"], "_atom_site.label_comp_id or auth_comp_id"),
        (["label_seq_id", "auth_seq_id"], "_atom_site.label_seq_id or auth_seq_id"),
        (["label_asym_id", "auth_asym_id"], "_atom_site.label_asym_id or auth_asym_id"),
        ([*DERIVED, "auth_asym_id"], "_atom_site.label_asym_id or auth_asym_id"),
    ],
)
def test_a_column_that_cannot_be_missing_is_named(read, columns, named):
    with pytest.raises(StructureError, match=rf"its _atom_site table lacks {re.escape(named)}$"):
        read(table(without=columns))


def test_elements_follow_from_names(read):
    """A calcium ion in the chain of the protein is not a residue, and selenium is not sulphur."""
    ion = residue(9, "CA", atoms=("CA",), record="HETATM")
    text = cif([*chain("MET", "MSE"), *ion])
    rows = [line.split() for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    lines = [f"_atom_site.{tag}" for tag in TAGS if tag != "type_symbol"]
    lines += [" ".join(row[:2] + row[3:]) for row in rows]
    assert read("\n".join(["data_x", "loop_", *lines, ""])).sequence == "MM"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data_x\n_entry.id x\n", r"the mmCIF text has no atoms \(no _atom_site table\)"),
        ("data_r1abcsf\nloop_\n_refln.index_h\n_refln.index_k\n1 2\n", "no atoms, but reflections"),
        (
            "data_ATP\n_chem_comp.id ATP\nloop_\n_chem_comp_atom.atom_id\nC1\nC2\n",
            "no atoms, but the definition of",
        ),
        (
            "data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\nC1 0.5\n",
            "a small-molecule crystal structure",
        ),
    ],
)
def test_mmcif_without_atoms_says_what_it_holds(read, text, reason):
    with pytest.raises(StructureError, match=reason):
        read(text)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"needs {CASES}")
@pytest.mark.parametrize("name", ["auth_only", "c_min", "c_min_id", "c_nob", "c_noocc"])
def test_files_of_bug_reports_are_read(name):
    protein, _ = read_structure(CASES / f"{name}.cif")
    assert protein.sequence == "MKHLAEDCKS"
    assert protein.atom_mask.all()
