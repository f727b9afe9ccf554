"""The datasets ``psr`` and ``msp`` read LMDB folders of ATOM3D."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import gemmi
import lmdb
import pytest

from esmgn_core.errors import StructureError
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component, example_proteins
from esmgn_core.weights import RemoteFile
from esmgn_datasets import atom3d
from esmgn_datasets.atom3d import ModelQuality, MutationPairs

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "atom3d"


def table(protein, mutated=None):
    columns = ["chain", "hetero", "insertion_code", "altloc", "residue", "resname", "x", "y", "z"]
    columns += ["name", "element", "occupancy", "bfactor"]
    rows = []
    for number, letter in enumerate(protein.sequence):
        kind = gemmi.expand_one_letter("W" if number == mutated else letter, gemmi.ResidueKind.AA)
        place = protein.backbone[number, 1].tolist()
        rows.append(["A", " ", " ", " ", number + 1, kind, *place, "CA", "C", 1.0, 0.0])
    return {"columns": columns, "index": list(range(len(rows))), "data": rows}


def write_lmdb(folder, records):
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        writing.put(b"num_examples", str(len(records)).encode())
        writing.put(b"serialization_format", b"json")
        for number, record in enumerate(records):
            writing.put(str(number).encode(), gzip.compress(json.dumps(record).encode()))


LONG = next(protein for protein in example_proteins() if protein.name == "long")
OTHER = next(protein for protein in example_proteins() if protein.name == "predicted")


def model(target, decoy, gdt_ts, protein=OTHER):
    return {"atoms": table(protein), "scores": {"gdt_ts": gdt_ts}, "id": str((target, decoy))}


@pytest.fixture
def psr(tmp_path):
    write_lmdb(tmp_path / "train", [model("T1", "a", 0.3), model("T1", "b", 0.5), model("T2", "a", 0.9)])
    write_lmdb(tmp_path / "val", [model("T3", "a", 0.4)])
    write_lmdb(tmp_path / "test", [model("T4", "a", 0.2), model("T4", "b", 0.6)])
    return tmp_path


def pair(name, label, mutated=7, shorter=False):
    mutant = OTHER if shorter else LONG
    return {
        "original_atoms": table(LONG),
        "mutated_atoms": table(mutant, mutated),
        "label": label,
        "id": name,
    }


@pytest.fixture
def msp(tmp_path):
    write_lmdb(tmp_path / "train", [pair("1ABC_A_B_GA8W", "1"), pair("broken", "0", shorter=True)])
    write_lmdb(tmp_path / "val", [pair("2ABC_A_B_GA8W", "0")])
    write_lmdb(tmp_path / "test", [pair("3ABC_A_B_GA8W", "1")])
    return tmp_path


def test_pairs_keep_their_contract(msp):
    check_component(Kind.DATA, "msp", path=str(msp))


def test_models_keep_their_target_in_their_name(psr):
    check_component(Kind.DATA, "psr", path=str(psr))
    dataset = ModelQuality(ModelQuality.Settings(path=psr))
    assert [dataset[index].name for index in dataset.split("train")] == ["T1/a", "T1/b", "T2/a"]
    assert dataset.labels(range(6)).flatten().tolist() == pytest.approx([0.3, 0.5, 0.9, 0.4, 0.2, 0.6])


def test_pairs_stand_side_by_side_and_unequal_ones_are_left_out(msp):
    dataset = MutationPairs(MutationPairs.Settings(path=msp))
    wild, mutant = (dataset[index] for index in dataset.split("train"))
    assert (wild.name, mutant.name) == ("1ABC_A_B_GA8W:wild", "1ABC_A_B_GA8W:mutant")
    assert (wild.residue_type != mutant.residue_type).nonzero().flatten().tolist() == [7]
    assert wild.labels.tolist() == mutant.labels.tolist() == [1.0]
    assert [item.reason for item in dataset.refused] == ["wild type and mutant have 120 and 33 residues"]


@pytest.mark.parametrize("label", ["inf", "nan", "2", "yes"])
def test_a_pair_with_another_label_is_left_out(tmp_path, label):
    for folder in ("val", "test"):
        write_lmdb(tmp_path / folder, [pair("2ABC_A_B_GA8W", "0")])
    write_lmdb(tmp_path / "train", [pair("1ABC_A_B_GA8W", "1"), pair("1ABC_A_B_GA9W", label)])
    dataset = MutationPairs(MutationPairs.Settings(path=tmp_path))
    assert len(dataset.split("train")) == 2
    [refused] = dataset.refused
    assert "not 1 or 0" in refused.reason or "could not convert" in refused.reason


def test_models_with_an_infinite_score_are_left_out_and_those_without_one_counted(psr):
    good, bad, unknown = model("T1", "a", 0.3), model("T1", "b", float("inf")), model("T1", "c", 0.5)
    del unknown["scores"]["gdt_ts"]
    shutil.rmtree(psr / "train")
    write_lmdb(psr / "train", [good, bad, unknown])
    dataset = ModelQuality(ModelQuality.Settings(path=psr))
    assert [item.reason for item in dataset.refused] == ["the label inf is infinite or beyond float32"]
    assert dataset.labels(dataset.split("train")).isnan().flatten().tolist() == [False, True]
    assert dataset.notes == ["1 of 5 proteins without a label"]


def test_a_folder_without_lmdb(tmp_path):
    with pytest.raises(StructureError, match=f"no PSR dataset in {tmp_path}"):
        ModelQuality(ModelQuality.Settings(path=tmp_path))


@pytest.mark.parametrize(
    ("component", "archive", "inside"),
    [
        (ModelQuality, "PSR_ARCHIVE", "split-by-year/data"),
        (MutationPairs, "MSP_ARCHIVE", "split-by-sequence-identity-30/data"),
    ],
)
def test_the_archive_is_downloaded_checked_and_unpacked_once(
    component, archive, inside, served, monkeypatch, request
):
    folder, url = served
    root = request.getfixturevalue("psr" if component is ModelQuality else "msp")
    file = folder / getattr(atom3d, archive).filename
    with tarfile.open(file, "w:gz") as packed:
        for split in ("train", "val", "test"):
            packed.add(root / split, f"{inside}/{split}")
    md5 = hashlib.md5(file.read_bytes()).hexdigest()  # noqa: S324 - what the publishers give
    monkeypatch.setattr(atom3d, archive, RemoteFile(url=f"{url}/{file.name}", md5=md5, license="none stated"))
    first = component(component.Settings())
    file.unlink()
    again, unpacked = component(component.Settings()), component(component.Settings(path=root))
    names = [[dataset[index].name for index in range(len(dataset))] for dataset in (first, again, unpacked)]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 6


def test_a_cut_archive_leaves_no_half_of_a_dataset(psr, served, monkeypatch):
    """Its checksum is that of the published file, so that only unpacking can detect the damage."""
    folder, url = served
    file = folder / "PSR-split-by-year.tar.gz"
    with tarfile.open(file, "w:gz") as packed:
        packed.add(psr / "train", "split-by-year/data/train")
        packed.add(psr / "val", "split-by-year/data/val")
    file.write_bytes(file.read_bytes()[:-200])
    md5 = hashlib.md5(file.read_bytes()).hexdigest()  # noqa: S324 - as above
    remote = RemoteFile(url=f"{url}/{file.name}", md5=md5, license="none stated")
    monkeypatch.setattr(atom3d, "PSR_ARCHIVE", remote)
    for _ in range(2):
        with pytest.raises(StructureError, match=r"cannot unpack .*PSR-split-by-year\.tar\.gz"):
            ModelQuality(ModelQuality.Settings())


@pytest.fixture
def samples():
    if not SAMPLES.is_dir():
        pytest.skip("the samples in ATOM3D's layout are not at hand (../shared/data/atom3d)")
    return SAMPLES


def test_the_sample_of_msp(samples):
    dataset = MutationPairs(MutationPairs.Settings(path=samples / "msp_sample"))
    sizes = [len(dataset.split("train")), len(dataset.split("valid")), len(dataset.test_sets["test"])]
    assert sizes == [2 * 28, 2 * 9, 2 * 9]
    for index in range(0, len(dataset), 2):
        differs = dataset[index].residue_type != dataset[index + 1].residue_type
        assert int(differs.sum()) == 1
