"""Aligned mmCIF read by stride gives what gemmi gives, or is left to gemmi."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
from isal import igzip

from esmgn_core.io.alphafold_cif import read_aligned_mmcif
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.mmcif import read_mmcif
from esmgn_core.io.plddt import mmcif_has_plddt
from esmgn_core.io.polymer import rows_of_protein
from esmgn_core.io.read import read_content
from esmgn_core.store.index import account

from .oracle import check_changed_at_random, same

STRUCTURES = Path(__file__).parents[3] / "shared" / "data" / "structures"
real = pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")

ITEMS = """group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id
label_seq_id pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv pdbx_formal_charge auth_seq_id
auth_comp_id auth_asym_id auth_atom_id pdbx_PDB_model_num pdbx_sifts_xref_db_acc""".split()  # noqa: SIM905
HEAD = """data_AF-X
#
_entity.id   1
_entity.type polymer
#
loop_
_ma_qa_metric.mode
_ma_qa_metric.name
_ma_qa_metric.type
local pLDDT other
#
loop_
"""


def model(length=4):
    items = [f"_atom_site.{item} \n" for item in ITEMS]
    lines = [
        f"ATOM {4 * row + slot:<3} {name[0]} {name:<3} . ALA A 1 {row + 1:<3} ? {3.8 * row:<8.3f} "
        f"{slot - 1.5:<6.3f} {-0.001 * slot:<6.3f} 1.0 {90.25:<6.2f} ? {row + 1:<4} ALA A {name:<3} 1 X1 \n"
        for row in range(length)
        for slot, name in enumerate(("N", "CA", "C", "O"), 1)
    ]
    return f"{HEAD}{''.join(items)}{''.join(lines)}# \n".encode()


def by_gemmi(text, name):
    table, _, block = read_mmcif(text)
    rows = rows_of_protein(table)
    return ResidueArrays.from_table(table.take(rows.kept), has_plddt=mmcif_has_plddt(block, name))


def by_stride(text, name):
    found = read_aligned_mmcif(text)
    if found is None:
        return None
    table, block = found
    return ResidueArrays.from_table(table, has_plddt=mmcif_has_plddt(block, name))


def test_a_model_of_alphafold_is_read():
    residues = by_stride(model(), "x.cif")
    assert residues.sequence == "AAAA"
    assert residues.plddt.tolist() == [90.25] * 4
    assert residues.backbone[1, 2].tolist() == [np.float32(3.8), 1.5, np.float32(-0.003)]
    same(residues, by_gemmi(model(), "x.cif"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ALA A 1 2 ", b"MSE A 1 2 "),  # a residue that is not standard, and not what the author says
        (b" ? 2    ALA A", b" ? 2    ALA B"),  # a second chain of the author's
        (b"ALA A 1 2 ", b"ALA A 2 2 "),  # a second entity
        (b"C CA  . ALA", b"C CB  . ALA"),
        (b" C CA ", b"CA CA "),  # calcium
        (b"O O   . ALA", b"O O   A ALA"),  # an alternate location
        (b" ? 3.800 ", b" A 3.800 "),  # an insertion code
        (b"3.800    ", b"3.80     "),  # fewer decimals
        (b"3.800    ", b"3.8 0    "),
        (b"3.800    ", b"?        "),
        (b"90.25 ", b"'9.2' "),
        (b"ATOM 7 ", b"HETATM 7"),
        (b"_entity.type polymer", b"_entity.type water"),
        (b"_entity.id   1", b"_entity.id   7"),
        (b"_atom_site.pdbx_PDB_model_num", b"_atom_site.pdbx_PDB_mode1_num"),
        (b" ? 4    ALA", b" ? 2    ALA"),  # numbers that go back
        (b"X1 \n# \n", b"X1 \n_struct.title x\n# \n"),
        (b"# \n", b"# \nloop_\n_atom_type.symbol C\n#\n"),  # something behind the atoms
        (b"data_AF-X", b"data_ONE\ndata_AF-X"),
    ],
)
def test_any_other_text_is_left_to_gemmi(old, new):
    text = model()
    assert old in text
    assert read_aligned_mmcif(text.replace(old, new)) is None


def test_text_changed_at_random_is_read_as_gemmi_reads_it_or_not_at_all():
    check_changed_at_random(
        model(12),
        b" -.?0123456789ABCNO\"'#;_\n",
        2000,
        lambda text: by_stride(text, "x.cif"),
        lambda text: by_gemmi(text, "x.cif"),
    )


@real
def test_real_files_read_by_stride_are_those_that_gemmi_reads(monkeypatch):
    files = sorted(STRUCTURES.glob("afdb/*.cif.gz"), key=lambda path: path.stat().st_size)[:24]
    texts = {path.name: igzip.decompress(path.read_bytes()) for path in files}
    fast = {name: read_content(text, name) for name, text in texts.items()}
    assert all(read_aligned_mmcif(text) is not None for text in texts.values())
    monkeypatch.setattr("esmgn_core.io.formats.read_aligned_mmcif", lambda *_: None)
    for name, text in texts.items():
        slow = read_content(text, name)
        same(fast[name].residues, slow.residues)
        assert fast[name].report == slow.report
        assert fast[name].origin() == slow.origin()
        assert account(fast[name]) == account(slow)
    one = fast[files[0].name]
    assert one.structure is not None
    structure = one.structure()
    assert isinstance(structure, gemmi.Structure)
    assert structure[0].count_atom_sites() > 4 * len(one.residues)
