"""Pooling residues into proteins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.readout import ProteinReadout
from esmgn_core.testing import example_proteins

WIDTH = 5


def batch() -> ProteinBatch:
    """Example proteins, and one without residues among them."""
    packed = ProteinBatch.from_proteins(example_proteins())
    ptr = torch.cat([packed.ptr[:2], packed.ptr[1:]])
    return packed.replace(ptr=ptr, names=(packed.names[0], "empty", *packed.names[1:]))


def features(packed: ProteinBatch, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return size * torch.randn(packed.num_residues, WIDTH, generator=generator)


@pytest.mark.parametrize("size", [1.0, 1e3], ids=["usual", "scores beyond the range of exp"])
def test_attention_is_a_softmax_over_the_residues_of_each_protein(size: float) -> None:
    packed = batch()
    residue = features(packed, size)
    readout = ProteinReadout("attention", WIDTH)
    encoding = readout(residue, packed)
    assert encoding.residue is residue
    for number, (first, end) in enumerate(zip(packed.ptr.tolist(), packed.ptr[1:].tolist(), strict=False)):
        rows = residue[first:end]
        share = torch.softmax(rows @ readout.score.weight[0], dim=0)
        torch.testing.assert_close(encoding.protein[number], share @ rows)


def test_attention_learns_to_choose_a_residue() -> None:
    """Its gradient reaches the score and the residues."""
    packed = batch()
    residue = features(packed).requires_grad_()
    readout = ProteinReadout("attention", WIDTH)
    readout(residue, packed).protein.square().sum().backward()
    assert readout.score.weight.grad is not None
    assert float(readout.score.weight.grad.abs().min()) > 0
    assert residue.grad is not None
    assert bool((residue.grad.abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_plain_readouts_have_no_tensors(name: str) -> None:
    """So that the names of a model's tensors are those of the published files."""
    packed = batch()
    residue = features(packed)
    readout = ProteinReadout(name, WIDTH)
    assert not readout.state_dict()
    pooled = readout(residue, packed).protein
    expected = torch.stack(
        [
            part.sum(0) / (max(len(part), 1) if name == "mean" else 1)
            for part in residue.split(packed.lengths.tolist())
        ]
    )
    torch.testing.assert_close(pooled, expected)
    assert not pooled[1].any()
