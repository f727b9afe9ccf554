"""The dataset ``fold`` reads the published layout."""

from __future__ import annotations

import gemmi
import h5py
import numpy as np
import pytest

from esmgn_core.spec import Kind
from esmgn_core.testing import check_component, example_proteins
from esmgn_datasets.folds import Folds

DOMAINS = {
    "train": {"d1aaa__": "a.1", "d1bbb__": "c.37"},
    "valid": {"d2aaa__": "a.1"},
    "test_fold": {"d3aaa__": "c.37"},
    "test_superfamily": {"d4aaa__": "a.1"},
    "test_family": {"d5aaa__": "b.40"},
}
PROTEIN = next(protein for protein in example_proteins() if protein.name == "predicted")


def write_domain(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    length = len(PROTEIN)
    kinds = [gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in PROTEIN.sequence]
    with h5py.File(file, "w") as content:
        content["atom_pos"] = np.repeat(PROTEIN.backbone[None, :, 1].numpy(), 2, axis=0)
        content["atom_types"] = np.full(length, 6)
        content["atom_names"] = np.array(["CA"] * length, dtype="S")
        content["atom_residue_id"] = np.arange(length)
        content["atom_residue_names"] = np.array(kinds, dtype="S")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "class_map.txt").write_text("c.37\t0\nb.40\t2\na.1\t1\n")
    for split, domains in DOMAINS.items():
        lines = [f"{domain}\tx\ty\t{fold}" for domain, fold in domains.items()]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for domain in domains:
            write_domain(tmp_path / split / f"{domain}.hdf5")
    return tmp_path


def test_it_keeps_its_contract(root):
    check_component(Kind.DATA, "fold", path=str(root))


def test_classes_test_sets_and_residues(root):
    dataset = Folds(Folds.Settings(path=root))
    assert dataset.label_names == ("c.37", "a.1", "b.40")
    assert dataset.labels(range(6)).flatten().tolist() == [1, 0, 1, 0, 1, 2]
    assert list(dataset.test_sets) == ["test_fold", "test_superfamily", "test_family"]
    assert dataset[0].sequence == PROTEIN.sequence
    assert dataset[0].backbone[:, 1].allclose(PROTEIN.backbone[:, 1])


def test_a_missing_domain_is_left_out_with_its_reason(root):
    (root / "train" / "d1bbb__.hdf5").unlink()
    dataset = Folds(Folds.Settings(path=root))
    assert [item.path.name for item in dataset.refused] == ["d1bbb__.hdf5"]
    assert len(dataset.split("train")) == 1
