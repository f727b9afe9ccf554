"""The convolution's own gradients and chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from esmgn_cdconv import neighborhood
from esmgn_cdconv.conv import ContinuousDiscreteConv, _Convolve
from esmgn_cdconv.level import Level
from esmgn_cdconv.neighborhood import Neighborhood
from esmgn_core.batch import ProteinBatch


@pytest.fixture
def near(pack):
    return Neighborhood.of(Level.of(pack("pair", "single", "predicted")), radius=8.0, max_offset=10)


def test_written_gradients_equal_finite_differences(pack):
    near = Neighborhood.of(Level.of(pack("single", "pair")), radius=8.0, max_offset=3)
    torch.manual_seed(0)
    kernel, features, weight = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in [(len(near.source), 2), (3, 4), (4, 8)]
    )
    assert len(near.source) == 5
    assert torch.autograd.gradcheck(
        lambda *inputs: _Convolve.apply(*inputs, near), (kernel, features, weight)
    )


def test_chunks_change_nothing(pack, near, monkeypatch):
    """Down to one target a chunk; gradients too."""
    torch.manual_seed(0)
    conv, features = ContinuousDiscreteConv(8, kernel_dim=5, num_offsets=21), torch.randn(36, 8)
    monkeypatch.setattr(neighborhood, "_SLOTS_PER_CHUNK", 1)
    small = Neighborhood.of(Level.of(pack("pair", "single", "predicted")), radius=8.0, max_offset=10)
    assert (len(near.slots), len(small.slots)) == (1, 36)
    results = []
    for chunks in (near, small):
        conv.zero_grad()
        output = conv(chunks, features)
        output.square().sum().backward()
        results.append([output, *(parameter.grad.clone() for parameter in conv.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_every_edge_has_one_slot(near):
    slots = torch.cat([table.flatten() for table in near.slots])
    num_edges = len(near.source)
    assert torch.equal(slots[slots < num_edges].sort().values, torch.arange(num_edges))
    for table in near.slots:
        for target, row in enumerate(table):
            assert set(near.target[row[row < num_edges]].tolist()) == {target}
    assert sum(near.num_edges) == num_edges


def test_a_batch_without_residues_has_no_edges(pack):
    batch = pack("pair").select(torch.zeros(2, dtype=torch.bool))
    near = Neighborhood.of(Level.of(batch), radius=8.0, max_offset=10)
    conv = ContinuousDiscreteConv(8, kernel_dim=5, num_offsets=21)
    assert conv(near, torch.zeros(0, 8)).shape == (0, 8)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def chain(length: int) -> ProteinBatch:
    """One chain of helices side by side, as dense as a protein."""
    number = torch.arange(length, dtype=torch.float64)
    column = number // 60
    along = torch.stack(
        [2.3 * (1.745 * number).cos(), 2.3 * (1.745 * number).sin(), 1.5 * (number % 60)], dim=1
    )
    ca = along + 9.5 * torch.stack([column % 6, column // 6, 0 * column], dim=1)
    return ProteinBatch(
        residue_type=torch.arange(length) % 20,
        backbone=ca.float().unsqueeze(1).expand(-1, 4, -1).contiguous(),
        atom_mask=torch.ones(length, 4, dtype=torch.bool),
        residue_index=torch.arange(length),
        chain_index=torch.zeros(length, dtype=torch.int64),
        ptr=torch.tensor([0, length]),
        names=("chain",),
    )


def test_outer_products_of_edges_are_never_made():
    """Forward and backward on 2,000 residues stay an order of magnitude below E x K x w numbers."""
    near = Neighborhood.of(Level.of(chain(2000)), radius=12.0, max_offset=10)
    conv, features = ContinuousDiscreteConv(64, kernel_dim=32, num_offsets=21), torch.randn(2000, 64)
    largest = Largest()
    with largest:
        conv(near, features.requires_grad_()).sum().backward()
    num_edges = len(near.source)
    assert num_edges > 25 * 2000
    assert largest.numel < num_edges * 32 * 64 / 10


def test_a_long_chain_passes_the_published_model(make_model, encode):
    model = make_model(hidden_dims=(256, 512, 1024, 2048), kernel_dim=32)
    largest = Largest()
    with torch.no_grad(), largest:
        encoding = encode(model, chain(2300))
    assert encoding.residue.shape == (2300, 2048)
    assert bool(encoding.residue.isfinite().all())
    assert largest.numel < 33_000_000
