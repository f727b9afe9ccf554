"""Real structure files: nothing crashes, nothing is lost without an account, coordinates equal mdtraj's."""

import csv
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.io import Refusal, find_structures, iter_structures, read_protein, read_structure

DATA = Path(__file__).parents[3] / "shared" / "data"
STRUCTURES = DATA / "structures"
pytestmark = pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")

OTHER_FORMATS = {
    "1a8o.mmtf": "MMTF",
    "4zhl.mmtf": "MMTF",
    "7m0y.fcz": "Foldcomp",
    "test_af.fcz": "Foldcomp",
}

COUNTED_OTHERWISE = {
    # alternatives of one residue counted one by one in the index
    "pdb/1ejg.pdb.gz": 46,
    "pdb/1en2.pdb.gz": 86,
    "pdb/3jqh.cif.gz": 23,
    "pdb/3u7t.cif.gz": 46,
    "edge/altloc.cif": 1,
    "edge/altloc_1en2.pdb.gz": 86,
    "edge/altloc_microheterogeneity_1ejg.pdb.gz": 46,
    # residues of the chain that the index does not know: CME, TYS, D-amino acids, ETA, NLE and HIP
    "pdb/6gjd.pdb.gz": 342,
    "pdb/1a4w.pdb.gz": 283,
    "pdb/1grm.pdb.gz": 32,
    "pdb/1kqe.cif.gz": 48,
    "pdb/2xdc.pdb.gz": 96,
    "pdb/3vfj.cif.gz": 384,
    "pdb/4n5t.pdb.gz": 104,
    "pdb/5gob.pdb.gz": 150,
    "edge/insertion_codes_1a4w.pdb.gz": 283,
    "edge/unordered_residues.pdb.gz": 35,
    # free phenylalanine and asparagine bound as ligands
    "chains/2QMX-A.pdb.gz": 278,
    "chains/11AS-A.pdb.gz": 327,
}


@pytest.fixture(scope="module")
def everything():
    """Every row of the index, with the protein and the report of its file, or the error."""
    with (STRUCTURES / "index.tsv").open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    return [(row, outcome(DATA / row["path"])) for row in rows]


def outcome(path):
    try:
        return read_structure(path)
    except StructureError as error:
        return error


def read_files(everything):
    return [(row, *result) for row, result in everything if not isinstance(result, StructureError)]


def test_each_file_is_read_or_refused_with_a_reason(everything):
    refused = [row["path"] for row, result in everything if isinstance(result, StructureError)]
    assert (len(everything), len(refused)) == (1215, 22)
    assert {path.split("/")[1] for path in refused} == {"edge", "formats"}
    for _, protein, _ in read_files(everything):
        assert len(protein) > 0
        assert protein.atom_mask[:, 1].all()
        assert torch.equal(protein.backbone.isfinite().all(-1), protein.atom_mask)
        assert protein.chain_index.unique().tolist() == list(range(len(protein.chains)))


def test_a_folder_is_read_as_its_files_are_one_by_one(everything):
    edge = [(row, result) for row, result in everything if row["kind"] == "edge"]
    results = iter_structures([DATA / row["path"] for row, _ in edge])
    for (row, alone), result in zip(edge, results, strict=True):
        if isinstance(result, Refusal):
            assert str(alone) == f"cannot read {DATA / row['path']}: {result.reason}"
        else:
            assert torch.equal(result.backbone.nan_to_num(), alone[0].backbone.nan_to_num())


@pytest.mark.parametrize(("file", "format_name"), OTHER_FORMATS.items())
def test_formats_that_are_not_read_are_named(file, format_name):
    with pytest.raises(StructureError, match=f"{format_name} format.*: (get|unpack)"):
        read_structure(STRUCTURES / "formats" / file)


def test_residues_are_those_the_index_counted_or_accounted_for(everything):
    for row, protein, report in read_files(everything):
        if not row["nres"]:
            continue
        file = row["path"].removeprefix("structures/")
        if file in COUNTED_OTHERWISE:
            assert len(protein) == COUNTED_OTHERWISE[file], file
        elif row["kind"] == "enzyme_backbone":  # the index counts free amino acids as well
            assert len(protein) + report.without_ca + report.left_out == int(row["nres"]), file
        else:
            assert len(protein) + report.without_ca == int(row["nres"]), file


def test_plddt_is_found_in_predicted_models_and_nowhere_else(everything):
    checked: Counter[str] = Counter()
    for row, protein, _ in read_files(everything):
        assert (protein.plddt is not None) == bool(row["plddt"]), row["path"]
        if protein.plddt is not None:
            unit = 100 if row["note"] == "pLDDT scale 0-1" else 1
            rounding = 0.06 if unit == 1 else 0.6
            assert protein.plddt.mean() == pytest.approx(unit * float(row["plddt"]), abs=rounding)
            assert protein.plddt.min() == pytest.approx(unit * float(row["plddt_min"]), abs=rounding)
            checked[row["kind"]] += 1
    assert checked == {"afdb": 98, "esmfold": 30}


def test_pdb_and_mmcif_of_one_entry_give_the_same_protein():
    for entry in ("AF-P04637-F1-model_v4", "AF-P76011-F1-model_v4", "AF-Q5VSL9-F1-model_v3"):
        one, two = (read_protein(STRUCTURES / "afdb" / f"{entry}.{ending}.gz") for ending in ("pdb", "cif"))
        assert one.sequence == two.sequence
        assert torch.equal(one.backbone, two.backbone)
        assert torch.equal(one.plddt, two.plddt)


def test_a_free_amino_acid_ligand_is_no_residue():
    """11AS is asparagine synthetase with its product, HETATM ASN, bound."""
    protein, report = read_structure(STRUCTURES / "chains" / "11AS-A.pdb.gz")
    assert len(protein) == 327
    assert report.left_out == 1
    assert protein.residue_index.max() == 330


MDTRAJ_SAMPLE = [
    *("afdb/AF-A0A0A9LVA1-F1-model_v4.pdb.gz", "afdb/AF-P01308-F1-model_v4.cif.gz"),
    *("esmfold/ESM-1BWP.pdb.gz", "esmfold/ESM-protein_60395.pdb.gz"),
    *("pdb/1ubi.pdb.gz", "pdb/1ajj.pdb.gz", "pdb/1a28.pdb.gz", "pdb/2src.pdb.gz", "pdb/1gbt.cif.gz"),
    *("chains/1A22-A.pdb.gz", "chains/1AW2-A.pdb.gz", "enzyme_backbone/117E-A.pdb.gz"),
    *("edge/insertion_codes_1orc.pdb.gz", "edge/mse_1a8o.pdb.gz", "edge/mse_1a8o.cif.gz"),
    *(
        "edge/ca_only_1lzh.pdb.gz",
        "edge/nmr_20_models_1lvz.pdb.gz",
        "edge/negative_residue_numbers_3fhk.pdb.gz",
    ),
    *("edge/phosphoserine_1xh4.pdb.gz", "edge/unk_6klp.pdb.gz", "edge/mmcif_four_letter_chain.cif.gz"),
    *(
        "edge/protein_rna_1dul.cif.gz",
        "edge/no_element_column.pdb.gz",
        "edge/no_chain_name_ter_records.pdb.gz",
    ),
]


@pytest.mark.parametrize("file", MDTRAJ_SAMPLE)
def test_alpha_carbons_are_where_mdtraj_finds_them(file):
    mdtraj = pytest.importorskip("mdtraj")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trajectory = mdtraj.load(str(STRUCTURES / file))
    carbons = [
        atom.index
        for atom in trajectory.topology.atoms
        if atom.name == "CA" and atom.element is not None and atom.element.symbol == "C"
    ]
    expected = torch.from_numpy(10 * trajectory.xyz[0][carbons])  # nm to angstrom
    torch.testing.assert_close(read_protein(STRUCTURES / file).backbone[:, 1], expected, atol=1e-3, rtol=0)


def test_find_structures_finds_all_but_the_unusual_endings(everything):
    found = set(find_structures([STRUCTURES]))
    missed = {row["id"] for row, _ in everything if DATA / row["path"] not in found}
    assert len(missed) == 6, missed
