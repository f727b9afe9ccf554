"""Reading by stride gives what gemmi gives, or leaves the text to gemmi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from isal import igzip

from esmgn_core.io.alphafold_pdb import read_by_stride
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.pdb import read_pdb
from esmgn_core.io.plddt import pdb_has_plddt, pdb_header
from esmgn_core.io.polymer import rows_of_protein
from esmgn_core.io.read import read_content

from .oracle import check_changed_at_random, same

STRUCTURES = Path(__file__).parents[3] / "shared" / "data" / "structures"
real = pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")

LINE = "ATOM  {:>5}  {:<3} {} A{:>4}    {:8.3f}{:8.3f}{:8.3f}  1.00{:6.2f}           {}  \n"
NAMES = [gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in "ARNDCQEGHILKMFPSTWYV"]


def model(length=4, header="TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR X (Y)", first=1):
    atoms = [
        LINE.format(
            *(4 * row + slot, name, NAMES[row % 20], row + first),
            *(3.8 * row, slot - 1.5, -0.001 * slot, 90.25 + row, name[0]),
        )
        for row in range(length)
        for slot, name in enumerate(("N", "CA", "C", "O"), 1)
    ]
    return f"{header:<80}\nMODEL        1{'':66}\n{''.join(atoms)}TER{'':77}\nENDMDL{'':74}\nEND\n".encode()


def by_stride(text, name):
    header = pdb_header(text)
    table = read_by_stride(text, header)
    return None if table is None else ResidueArrays.from_table(table, has_plddt=pdb_has_plddt(header, name))


def by_gemmi(text, name):
    table, _ = read_pdb(text)
    return ResidueArrays.from_table(
        table.take(rows_of_protein(table).kept), has_plddt=pdb_has_plddt(pdb_header(text), name)
    )


def test_a_model_of_alphafold_is_read():
    residues = by_stride(model(), "x.pdb")
    assert residues.sequence == "ARND"
    assert residues.plddt.tolist() == [90.25, 91.25, 92.25, 93.25]
    assert residues.backbone[1, 2].tolist() == [np.float32(3.8), 1.5, np.float32(-0.003)]
    same(residues, by_gemmi(model(), "x.pdb"))


@pytest.mark.parametrize("first", [-3, 0, 9980])
def test_all_residues_and_numbers_are_read(first):
    text = model(20, header="HEADER", first=first)
    residues = by_stride(text, "x.pdb")
    assert residues.sequence == "ARNDCQEGHILKMFPSTWYV"
    assert residues.number.tolist() == list(range(first, first + 20))
    same(residues, by_gemmi(text, "x.pdb"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" 90.25", b"100.00"),
        (b" 90.25", b"  0.00"),
        (b" 90.25", b"-99.99"),
        (b"   3.800", b"-999.999"),
        (b"   3.800", b"9999.999"),
        (b"   3.800", b"0003.800"),
        (b"ARG A   2", b"ARG A0002"),
        (b"END\n", b"CONECT    1    2\nMASTER\nEND"),
        (b"MODEL        1", b"DBREF  XXXX A 1"),
    ],
)
def test_whatever_fills_the_columns_is_read(old, new):
    text = model()
    assert old in text
    changed = text.replace(old, new)
    same(by_stride(changed, "x.pdb"), by_gemmi(changed, "x.pdb"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ARG A   2", b"MSE A   2"),  # a residue that is not standard
        (b" ARG A   2", b"AARG A   2"),
        (b"ARG A   2", b"ARG B   2"),  # a second chain
        (b"  CA  ASN A   3", b"  CB  ASN A   3"),  # a residue without CA
        (b"   3.800", b"   3,800"),
        (b"   3.800", b"********"),
        (b"   3.800", b"  3.800 "),
        (b"ASN A   3 ", b"ASN A   3A"),  # an insertion code
        (b"ASP A   4", b"ASP A   2"),  # numbers that go back
        (b"  O   ALA A   1", b"  C   ALA A   1"),  # an atom twice
        (b"ATOM      6", b"HETATM    6"),
        (b"           N  \nATOM      2", b"      PROA N  \nATOM      2"),  # a segment
        (b"TER ", b"ATOM"),
        (b"TER ", b"atom"),
        (b"TER ", b"HETA"),
        (b"TER ", b"ANISOU"),
        (b"ENDMDL", b"model "),
        (b"MODEL        1", b"end           "),
        (b"MODEL        1", b"model        1"),
        (b"MODEL        1", b"MODEL\t       1"),
        (b"MODEL        1", b"hetatm       1"),
        (b"MODEL        1", b"ANISOU       1"),
        (b"MODEL        1", b"DBREF2       1"),
        (b"MODEL        1", b"data_x       1"),
        (b"ENDMDL", b"MODEL "),
        (b" 90.25", b" 9O.25"),
        (b"A   3 ", b"A   3\t"),
        (b"C  \nATOM", b"C  \tATOM"),  # two lines in one
        (b"  1.00 90.25", b"  1\n00 90.25"),  # a line in two
        (b"  -0.003", b"  -0. 03"),
        (b"  -0.003", b"  0-.003"),
        (b"  -0.003", b"  \r0.003"),
    ],
)
def test_any_other_text_is_left_to_gemmi(old, new):
    text = model()
    assert old in text
    assert by_stride(text.replace(old, new), "x.pdb") is None


@pytest.mark.parametrize("record", [b"end           ", b"DBREF2       1"])
def test_a_header_after_which_gemmi_sees_no_atoms_is_a_reason(record):
    with pytest.raises(UnreadableError, match="no atoms in the first model"):
        read_content(model().replace(b"MODEL        1", record), "x.pdb")


def test_text_changed_at_random_is_read_as_gemmi_reads_it_or_not_at_all():
    check_changed_at_random(
        model(12),
        b" -.0123456789ABCNOTER\n",
        1500,
        lambda text: by_stride(text, "x.pdb"),
        lambda text: by_gemmi(text, "x.pdb"),
    )


@real
def test_real_files_read_by_stride_are_those_that_gemmi_reads():
    read: dict[str, Any] = {}
    files = (path for folder in ("afdb", "esmfold", "edge") for path in STRUCTURES.glob(f"{folder}/*.pdb.gz"))
    for path in files:
        try:
            text = igzip.decompress(path.read_bytes())
        except (EOFError, OSError):
            continue
        residues = by_stride(text, path.name)
        if residues is not None:
            read[path.parent.name] = read.get(path.parent.name, 0) + 1
            same(residues, by_gemmi(text, path.name))
    assert read["afdb"] == 63, "every PDB file of AlphaFold DB but one that somebody cut short"
    assert sum(read.values()) > 80
