"""The dataset `store`: chosen by settings, split by sequence or by a file, lengths known beforehand."""

from dataclasses import replace

import pytest
import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import DataError, SettingsError
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, build
from esmgn_core.testing import example_proteins
from esmgn_datasets.store import StoreDataset


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in").mkdir()
    for protein in example_proteins():
        (tmp_path / "in" / f"{protein.name}.pdb").write_text(pdb_text(protein))
    copy = replace(example_proteins()[2], name="long_again")
    (tmp_path / "in" / "long_again.pdb").write_text(pdb_text(copy))
    build([str(tmp_path / "in")], tmp_path / "store", BuildOptions())
    return tmp_path / "store"


def dataset(path, **settings):
    return StoreDataset(StoreDataset.Settings(path=path, **settings))


def names(data, split=None):
    return [data[index].name for index in (range(len(data)) if split is None else data.split(split))]


def test_lengths_are_those_of_the_proteins(path):
    data = dataset(path)
    assert data.lengths.tolist() == [len(data[index]) for index in range(len(data))]


def test_a_batch_read_at_once_is_that_of_single_proteins(path):
    data = dataset(path, max_length=100)
    one, other = data.batch([2, 0]), ProteinBatch.from_proteins([data[2], data[0]])
    assert one.names == other.names
    for name in ("residue_type", "residue_index", "chain_index", "ptr", "atom_mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    torch.testing.assert_close(one.plddt, other.plddt, equal_nan=True)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"min_length": 40}, ["long", "long_again", "two_chains"]),
        ({"max_length": 2}, ["pair", "single"]),
        ({"max_chains": 1, "min_length": 30}, ["long", "long_again", "predicted"]),
        ({"min_plddt": 100, "min_length": 30}, ["long", "long_again", "two_chains"]),
        ({"unique_sequences": True, "min_length": 34}, ["long", "two_chains"]),
    ],
)
def test_settings_choose_proteins(path, settings, left):
    assert names(dataset(path, **settings)) == left


def test_proteins_related_to_a_test_set_are_left_out(path, tmp_path):
    test = tmp_path / "long.pdb"
    test.write_text(pdb_text(example_proteins()[2]))
    data = dataset(path, exclude_similar_to=test, min_length=2)
    assert names(data) == ["pair", "predicted", "two_chains"]
    assert data.lengths.tolist() == [2, 33, 40]
    assert (
        f"left out as related to 1 protein of {test}: 2 proteins: long (long), long_again (long)"
        in data.notes
    )
    with pytest.raises(DataError, match="no protein of"):
        dataset(path, exclude_similar_to=path)


def test_copies_of_a_sequence_are_in_one_split(path):
    for fraction in (0.2, 0.4, 0.6, 0.8):
        held = set(names(dataset(path, valid_fraction=fraction), "valid"))
        assert ("long" in held) == ("long_again" in held)


def test_point_mutants_and_fragments_are_in_one_split(tmp_path):
    (tmp_path / "in").mkdir()
    wild = example_proteins()[2]
    for place in range(0, 40, 2):
        changed = wild.residue_type.clone()
        changed[place] = (changed[place] + 1) % 20
        mutant = replace(wild, name=f"mutant{place:02d}", residue_type=changed)
        (tmp_path / "in" / f"{mutant.name}.pdb").write_text(pdb_text(mutant))
    for place, protein in enumerate(example_proteins(1)):
        (tmp_path / "in" / f"AF-Q1-F{place + 1}-model_v4.pdb").write_text(pdb_text(protein))
    build([str(tmp_path / "in")], tmp_path / "store", BuildOptions())
    data = dataset(tmp_path / "store", valid_fraction=0.5)
    assert "2 groups of related proteins, the largest of 20; checked: " in data.notes[-1]
    assert names(data, "train")[-20:] == [f"mutant{place:02d}" for place in range(0, 40, 2)]
    few = dataset(tmp_path / "store", valid_fraction=0.9, max_length=100)
    assert len({name[:5] for name in names(few)}) == 1
    assert names(few, "valid") == []


def test_too_many_proteins_for_5_mers_are_noted(path, monkeypatch):
    monkeypatch.setattr("esmgn_datasets.store._MOST_COMPARED", 3)
    notes = dataset(path, valid_fraction=0.5).notes
    assert "not checked: 5-mers" in notes[-2]
    assert notes[-1].startswith("more than 3 proteins: a run does not compare 5-mers at every start")


def test_a_file_of_splits_decides(path, tmp_path):
    file = tmp_path / "splits.tsv"
    file.write_text("name\tsplit\nlong\ttrain\npair\tvalid\nsingle\ttest\n")
    data = dataset(path, splits=file)
    assert names(data, "train") == ["long"]
    assert names(data, "valid") == ["pair"]
    assert len(data) == 2


def test_a_file_of_splits_without_training_proteins_is_named(path, tmp_path):
    (tmp_path / "splits.tsv").write_text("long\tvalid\n")
    with pytest.raises(DataError, match=r"assigns no protein of .* to the split 'train'"):
        dataset(path, splits=tmp_path / "splits.tsv")


def test_a_store_without_a_path_says_what_to_type():
    with pytest.raises(SettingsError, match="the dataset 'store' needs a path\n  set it: --data STORE"):
        StoreDataset(StoreDataset.Settings())


def test_settings_that_fit_nothing_are_named(path):
    with pytest.raises(DataError, match=r"no protein of .* fits the settings"):
        dataset(path, min_length=1000)
