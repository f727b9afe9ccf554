"""Claims about GPS."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esmgn_core.testing import ExampleGraph, example_batch
from esmgn_pyg.gps import GPS, gps_layer


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_layer_equals_torch_geometrics_without_its_padding(norm) -> None:
    """The same state dict, the same numbers, in training too, for proteins of 1 to 120 residues."""
    torch.manual_seed(0)
    settings = GPS.Settings(hidden_dim=16, heads=4, norm=norm)
    layer, oracle = gps_layer(settings, 4), gps_layer(settings, 4)
    oracle.attn = nn.MultiheadAttention(16, 4, batch_first=True)
    oracle.load_state_dict(layer.state_dict())
    batch = example_batch()
    graph = ExampleGraph()(batch)
    hidden, features = torch.randn(batch.num_residues, 16), torch.eye(4)[graph.relation]
    found, expected = (
        module(hidden, graph.edge_index, batch.protein_index, edge_attr=features)
        for module in (layer, oracle)
    )
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_residues_attend_to_their_own_protein_across_chains_and_no_other(make, encode) -> None:
    """Without edges, a changed residue reaches every residue of its protein, and nobody else."""
    module, batch = make("pyg_gps"), example_batch()
    graph = ExampleGraph()(batch)
    empty = graph.keep_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    changed = batch.residue_type.clone()
    changed[0] = (changed[0] + 1) % 20
    before = encode(module, batch, empty).residue
    after = encode(module, batch.replace(residue_type=changed), empty).residue
    moved = (after - before).abs().amax(dim=1) > 0
    assert moved[: batch.ptr[1]].all()
    assert not moved[batch.ptr[1] :].any()
