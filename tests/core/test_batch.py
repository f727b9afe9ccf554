"""Packed batches and encodings."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.batch import Encoding, Protein, ProteinBatch


def protein(name: str, length: int, *, plddt: bool = False, labels: torch.Tensor | None = None) -> Protein:
    generator = torch.Generator().manual_seed(length)
    return Protein(
        name=name,
        residue_type=torch.randint(0, 20, (length,), generator=generator),
        backbone=torch.randn(length, 4, 3, generator=generator),
        atom_mask=torch.ones(length, 4, dtype=torch.bool),
        residue_index=torch.arange(length) + 7,
        chain_index=torch.zeros(length, dtype=torch.int64),
        plddt=torch.full((length,), 90.0) if plddt else None,
        labels=labels,
    )


def test_proteins_lie_end_to_end() -> None:
    first, second = protein("a", 3), protein("b", 5)
    batch = ProteinBatch.from_proteins([first, second])
    assert batch.ptr.tolist() == [0, 3, 8]
    assert batch.names == ("a", "b")
    assert batch.lengths.tolist() == [3, 5]
    assert batch.protein_index.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert torch.equal(batch.residue_type[3:], second.residue_type)
    assert torch.equal(batch.ca, batch.backbone[:, 1])
    assert batch.plddt is None


def test_a_protein_without_plddt_has_nan_among_others_that_have() -> None:
    batch = ProteinBatch.from_proteins([protein("a", 2), protein("b", 2, plddt=True)])
    assert batch.plddt is not None
    assert batch.plddt.isnan().tolist() == [True, True, False, False]


def test_labels_are_for_all_proteins_or_none() -> None:
    labelled = protein("a", 2, labels=torch.tensor([1.0, torch.nan]))
    batch = ProteinBatch.from_proteins([labelled, labelled])
    assert batch.labels is not None
    assert batch.labels.shape == (2, 2)
    with pytest.raises(ValueError, match="either all proteins"):
        ProteinBatch.from_proteins([labelled, protein("b", 2)])


def test_select_keeps_rows_and_moves_borders() -> None:
    batch = ProteinBatch.from_proteins([protein("a", 3), protein("b", 2), protein("c", 4)])
    keep = torch.tensor([True, False, True, False, False, True, True, False, True])
    kept = batch.select(keep)
    assert kept.ptr.tolist() == [0, 2, 2, 5]
    assert kept.residue_index.tolist() == [7, 9, 7, 8, 10]
    assert torch.equal(kept.backbone, batch.backbone[keep])
    assert batch.num_residues == 9


def test_one_hot_of_unknown_and_masked_residues() -> None:
    batch = ProteinBatch.from_proteins([protein("a", 3)]).replace(residue_type=torch.tensor([0, 20, 21]))
    one_hot = batch.residue_one_hot
    assert one_hot.shape == (3, 21)
    assert one_hot.argmax(dim=1)[:2].tolist() == [0, 20]
    assert one_hot.sum(dim=1).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("readout", "expected"), [("sum", [6.0, 0.0, 4.0]), ("mean", [2.0, 0.0, 4.0])])
def test_readout(readout: str, expected: list[float]) -> None:
    batch = ProteinBatch.from_proteins([protein("a", 3), protein("b", 1), protein("c", 1)])
    batch = batch.select(torch.tensor([True, True, True, False, True]))
    encoding = Encoding.from_residues(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), batch, readout)
    assert encoding.protein.squeeze(1).tolist() == expected


def test_sequence_is_readable() -> None:
    assert protein("a", 4).sequence.isalpha()
