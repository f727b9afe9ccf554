"""Records of ATOM3D data sets become proteins by the same rules as structure files."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.io import read_protein
from esmgn_core.io.atom3d import Atom3DRecords, atoms_to_protein

ATOM3D = Path(__file__).parents[3] / "shared" / "data" / "atom3d"
real = pytest.mark.skipif(not ATOM3D.is_dir(), reason=f"needs the ATOM3D samples in {ATOM3D}")

COLUMNS = ["model", "chain", "hetero", "insertion_code", "residue", "resname", "altloc", "occupancy"]
COLUMNS += ["x", "y", "z", "element", "name"]
GLYCINE = [0, "A", " ", "B", 7, "GLY", " ", 1.0, 1.5, 2.25, -3.125, "C", "CA"]


def write(folder: Path, records: list[dict[str, Any]], serialization: str = "json") -> Path:
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as put:
        put.put(b"num_examples", str(len(records)).encode())
        put.put(b"serialization_format", serialization.encode())
        for number, record in enumerate(records):
            put.put(str(number).encode(), gzip.compress(json.dumps(record).encode()))
    return folder


def frame(*rows: list[Any]) -> dict[str, Any]:
    return {"columns": COLUMNS, "index": list(range(len(rows))), "data": list(rows)}


def test_a_record_is_a_dictionary_with_its_tables_as_columns(tmp_path):
    records = Atom3DRecords(write(tmp_path / "set", [{"id": "x", "atoms": frame(GLYCINE)}]))
    assert len(records) == 1
    assert records[-1]["id"] == "x"
    assert records[0]["atoms"]["residue"] == [7]
    with pytest.raises(IndexError):
        records[1]


def test_chain_number_and_insertion_code_are_kept(tmp_path):
    record = Atom3DRecords(write(tmp_path / "set", [{"atoms": frame(GLYCINE)}]))[0]
    protein = atoms_to_protein(record["atoms"], "one")
    assert (protein.name, protein.sequence, protein.chains) == ("one", "G", ("A",))
    assert protein.residue_index.tolist() == [7]
    assert protein.insertion_code.tolist() == [ord("B")]
    assert protein.backbone[0, 1].tolist() == [1.5, 2.25, -3.125]
    assert protein.atom_mask.tolist() == [[False, True, False, False]]


def test_only_the_first_model_is_read():
    second = [1, "A", " ", " ", 8, "ALA", " ", 1.0, 9.0, 9.0, 9.0, "C", "CA"]
    columns = dict(zip(COLUMNS, zip(GLYCINE, second, strict=True), strict=True))
    assert atoms_to_protein(columns, "two models").sequence == "G"


def test_other_serializations_are_named(tmp_path):
    with pytest.raises(StructureError, match="in the format 'msgpack', only json is read"):
        Atom3DRecords(write(tmp_path / "set", [], "msgpack"))


def test_a_folder_that_is_none_says_so(tmp_path):
    with pytest.raises(StructureError, match=r"no ATOM3D data set in .*: it has no data\.mdb"):
        Atom3DRecords(tmp_path)


def test_a_damaged_record_is_named(tmp_path):
    folder = write(tmp_path / "set", [{"id": "x"}])
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as put:
        put.put(b"0", b"no gzip")
    with pytest.raises(StructureError, match=r"record 0 of .* is damaged"):
        Atom3DRecords(folder)[0]


def test_missing_columns_are_named():
    with pytest.raises(StructureError, match="atoms of 'x': the table lacks the columns: hetero, y"):
        atoms_to_protein({name: [] for name in COLUMNS if name not in {"hetero", "y"}}, "x")


def test_a_table_without_atoms_is_named():
    with pytest.raises(StructureError, match="no protein in the atoms of 'x': the table has no atoms"):
        atoms_to_protein({name: [] for name in COLUMNS}, "x")


@real
def test_all_sample_records_give_proteins():
    lengths = {}
    for folder, tables in (("psr_sample", ["atoms"]), ("msp_sample", ["original_atoms", "mutated_atoms"])):
        records = Atom3DRecords(ATOM3D / folder / "val")
        lengths[folder] = [len(atoms_to_protein(row[key], row["id"])) for row in records for key in tables]
    assert len(lengths["psr_sample"]) == 50
    assert min(map(min, lengths.values())) > 20
    pairs = lengths["msp_sample"]
    assert pairs[::2] == pairs[1::2], "wild type and mutant have equally many residues"


@real
def test_a_record_reads_like_the_file_it_was_made_from():
    """The MSP sample was made from the complexes beside it."""
    record = next(row for row in Atom3DRecords(ATOM3D / "msp_sample" / "train") if "1BRS" in row["id"])
    protein = atoms_to_protein(record["original_atoms"], "1BRS")
    expected = read_protein(ATOM3D / "msp_complexes" / "1BRS_A_D.pdb.gz")
    assert sorted(protein.sequence) == sorted(expected.sequence)
    by_chain = [protein.backbone[protein.chain_index == protein.chains.index(name)] for name in "AD"]
    expected_by_chain = [expected.backbone[expected.chain_index == expected.chains.index(n)] for n in "AD"]
    for ours, theirs in zip(by_chain, expected_by_chain, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True, atol=5e-4, rtol=0)


@real
def test_a_free_ligand_amino_acid_is_no_residue_here_either():
    """11AS, as in the file: asparagine synthetase with HETATM ASN, two chains."""
    record = Atom3DRecords(ATOM3D / "upstream" / "lmdb_json")[0]
    protein = atoms_to_protein(record["atoms"], record["id"])
    assert len(protein) == 327 * 2


def test_a_set_of_records_can_be_sent_to_another_process(tmp_path):
    records = Atom3DRecords(write(tmp_path / "set", [{"id": "x"}]))
    assert pickle.loads(pickle.dumps(records))[0]["id"] == "x"  # noqa: S301
