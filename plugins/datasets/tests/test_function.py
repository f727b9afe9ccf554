"""The datasets ``ec`` and ``go`` read the published layout."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path

import pytest

from esmgn_core.errors import StructureError, WeightsError
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component
from esmgn_core.weights import RemoteFile
from esmgn_datasets import function
from esmgn_datasets.function import (
    EnzymeCommission,
    GeneOntology,
    read_ec_annotation,
    read_go_annotation,
    read_identities,
)

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "labels"
EC_ROWS = """### EC-numbers
1.1.1.-\t2.7.1.1\t3.2.2.9
### PDB-chain\tEC-numbers
1AAA-A\t3.2.2.9,1.1.1.-
1BBB-A\t2.7.1.1
2AAA-A\t2.7.1.1
3AAA-A\t1.1.1.-
3BBB-A\t3.2.2.9
"""
IDENTITIES = "PDB-chain,<30%,<40%,<50%,<70%,<95%\n3AAA-A,1,1,1,1,1\n3BBB-A,0,0,1,1,1\n3CCC-A,0,0,0,0,1\n"
GO_ROWS = "\n".join(
    [
        *("### GO-terms (molecular_function)", "GO:0000001\tGO:0000002", "### GO-names", "one\ttwo"),
        *("### GO-terms (biological_process)", "GO:0000003", "### GO-names", "three"),
        *("### GO-terms (cellular_component)", "GO:0000004\tGO:0000005", "### GO-names", "four\tfive"),
        "### PDB-chain\tMF\tBP\tCC",
        "1AAA-A\tGO:0000002\t\tGO:0000005,GO:0000004",
        "1BBB-A\t\tGO:0000003",
        "",
    ]
)


@pytest.fixture
def ec(chain_files):
    (chain_files / "nrPDB-EC_annot.tsv").write_text(EC_ROWS)
    (chain_files / "nrPDB-EC_test.csv").write_text(IDENTITIES)
    return chain_files


@pytest.fixture
def go(chain_files):
    (chain_files / "nrPDB-GO_annot.tsv").write_text(GO_ROWS)
    (chain_files / "nrPDB-GO_test.csv").write_text(IDENTITIES)
    return chain_files


def names(dataset, indices):
    return [dataset[index].name for index in indices]


def test_ec_keeps_its_contract(ec):
    check_component(Kind.DATA, "ec", path=str(ec))


def test_go_keeps_its_contract(go):
    check_component(Kind.DATA, "go", path=str(go), branch="CC")


def test_labels_are_in_the_order_of_the_file_and_chains_without_any_are_kept(ec):
    """In training and in testing: a zero row counts in the published Fmax."""
    dataset = EnzymeCommission(EnzymeCommission.Settings(path=ec))
    assert dataset.label_names == ("1.1.1.-", "2.7.1.1", "3.2.2.9")
    assert names(dataset, dataset.split("train")) == ["1AAA-A", "1BBB-A", "1CCC-B"]
    assert dataset.labels(dataset.split("train")).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert dataset.labels(dataset.test_sets["test"]).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_chains_that_are_not_annotated_are_counted(ec):
    [note] = EnzymeCommission(EnzymeCommission.Settings(path=ec)).notes
    assert note.endswith("chains have no annotation and count as chains without a class")


def test_test_sets_by_identity_to_training(ec):
    sets = EnzymeCommission(EnzymeCommission.Settings(path=ec)).test_sets
    assert {name: len(indices) for name, indices in sets.items()} == {
        "test": 3,
        "test_30": 1,
        "test_40": 1,
        "test_50": 2,
        "test_70": 2,
    }
    strict = EnzymeCommission(EnzymeCommission.Settings(path=ec, max_identity=50))
    assert names(strict, strict.test_sets["test"]) == ["3AAA-A", "3BBB-A"]
    assert set(strict.test_sets) == {"test", "test_30", "test_40"}


def test_a_cutoff_takes_chains_out_of_whatever_split_they_are_in(ec):
    (ec / "nrPDB-EC_test.csv").write_text(f"{IDENTITIES}1BBB-A,0,0,0,0,1\n")
    dataset = EnzymeCommission(EnzymeCommission.Settings(path=ec, max_identity=30))
    assert names(dataset, dataset.split("train")) == ["1AAA-A", "1CCC-B"]


def test_a_list_of_chains_to_keep(ec, tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text("1AAA-A\n2AAA-A\n3CCC-A\n")
    dataset = EnzymeCommission(EnzymeCommission.Settings(path=ec, keep=kept))
    assert names(dataset, range(len(dataset))) == ["1AAA-A", "2AAA-A", "3CCC-A"]


@pytest.mark.parametrize(
    ("branch", "labels"),
    [
        ("MF", [[0, 1], [0, 0], [0, 0]]),
        ("BP", [[0], [1], [0]]),
        ("CC", [[1, 1], [0, 0], [0, 0]]),
    ],
)
def test_branches_of_go_also_with_empty_and_missing_cells(go, branch, labels):
    dataset = GeneOntology(GeneOntology.Settings(path=go, branch=branch))
    assert dataset.labels(dataset.split("train")).tolist() == labels


def test_an_unreadable_chain_is_left_out_with_its_reason(ec):
    (ec / "train" / "1CCC-B_updated.pdb").write_text("no structure")
    dataset = EnzymeCommission(EnzymeCommission.Settings(path=ec))
    assert [item.path.name for item in dataset.refused] == ["1CCC-B_updated.pdb"]
    assert names(dataset, dataset.split("train")) == ["1AAA-A", "1BBB-A"]


def test_the_archive_is_downloaded_checked_and_unpacked_once(ec, served, monkeypatch):
    folder, url = served
    inside = "EnzymeCommission"
    with zipfile.ZipFile(folder / "EnzymeCommission.zip", "w") as outer:
        for split in ("train", "valid", "test"):
            inner = folder / f"{split}.zip"
            with zipfile.ZipFile(inner, "w") as zipped:
                for file in sorted((ec / split).iterdir()):
                    zipped.write(file, f"{split}/{file.name}")
            outer.write(inner, f"{inside}/{split}.zip")
        for name in ("nrPDB-EC_annot.tsv", "nrPDB-EC_test.csv"):
            outer.write(ec / name, f"{inside}/{name}")
    archive = folder / "EnzymeCommission.zip"
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()  # noqa: S324 - what the publishers give
    remote = RemoteFile(url=f"{url}/EnzymeCommission.zip", md5=md5, license="none stated")
    monkeypatch.setattr(function, "EC_ARCHIVE", remote)
    first = EnzymeCommission(EnzymeCommission.Settings())
    archive.unlink()
    second = EnzymeCommission(EnzymeCommission.Settings())
    assert len(first) == len(second) == 7


def test_another_file_under_the_archives_name_is_refused(served, monkeypatch):
    folder, url = served
    (folder / "EnzymeCommission.zip").write_bytes(b"something else")
    remote = function.EC_ARCHIVE.model_copy(update={"url": f"{url}/EnzymeCommission.zip"})
    monkeypatch.setattr(function, "EC_ARCHIVE", remote)
    with pytest.raises(WeightsError, match="is not the published file: md5 is"):
        EnzymeCommission(EnzymeCommission.Settings())


def test_a_folder_that_is_no_archive(tmp_path):
    with pytest.raises(StructureError, match=f"no EC dataset in {tmp_path}"):
        EnzymeCommission(EnzymeCommission.Settings(path=tmp_path))


def test_a_class_that_the_header_lacks(ec):
    (ec / "nrPDB-EC_annot.tsv").write_text(f"{EC_ROWS}1CCC-B\t9.9.9.9\n")
    with pytest.raises(StructureError, match=r"'9\.9\.9\.9' is not among the 3 classes of its header"):
        EnzymeCommission(EnzymeCommission.Settings(path=ec))


@pytest.fixture
def published():
    if not PUBLISHED.is_dir():
        pytest.skip("the published label files are not at hand (../shared/data/labels)")
    return PUBLISHED


def test_published_ec_numbers(published):
    annotation = read_ec_annotation(published / "deepfri" / "nrPDB-EC_2020.04_annot.tsv")
    assert (len(annotation.names), len(annotation.classes)) == (538, 19201)
    assert [annotation.names[number] for number in annotation.classes["4PR3-A"]] == ["3.2.2.9", "3.2.2.-"]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("nrPDB-EC_2020.04_test.csv", [720, 902, 1117, 1476, 1919]),
        ("nrPDB-GO_2019.06.18_test.csv", [1717, 1937, 2199, 2733, 3416]),
    ],
)
def test_published_test_sets_by_identity(published, name, counts):
    below = read_identities(published / "deepfri" / name)
    assert [sum(column) for column in zip(*below.values(), strict=True)] == counts


def test_published_go_terms(published, tmp_path):
    """The file at hand lacks the header of biological processes, which is put in here."""
    packed = (published / "go" / "nrPDB-GO_mf_cc_valid_test.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    mf, cc, rows = lines[:2], lines[2:4], lines[4:]
    file = tmp_path / "annot.tsv"
    empty = ["### names", ""]
    file.write_text("\n".join([*mf, *empty, "### BP", "none", *empty, *cc, *empty, *rows]))
    terms = {branch: read_go_annotation(file, branch) for branch in ("MF", "CC")}
    assert [len(terms[branch].names) for branch in ("MF", "CC")] == [489, 320]
    assert [len(terms[branch].classes["18GS-A"]) > 5 for branch in ("MF", "CC")] == [True, True]
    assert len(terms["MF"].classes["11AS-A"]) == 11
