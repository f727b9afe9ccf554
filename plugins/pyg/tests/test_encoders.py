"""Claims about all encoders of the plugin."""

from __future__ import annotations

import pytest
import torch

import esmgn_pyg
from esmgn_core import Kind
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import ExampleGraph, check_component, example_batch

DISTANCE_BLIND = ("pyg_gat", "pyg_gcn", "pyg_gin", "pyg_rgcn", "pyg_sage")
LAYERED = ("pyg_egnn", "pyg_gcn", "pyg_gps", "pyg_schnet")
RELATION_BLIND = ("pyg_dimenet", "pyg_gcn", "pyg_gin", "pyg_sage", "pyg_schnet")


def test_every_encoder_is_tested(small) -> None:
    assert [spec.name for spec in esmgn_pyg.esmgn_components()] == list(small)


def test_contract_of_a_structure_encoder_is_kept(name, small) -> None:
    """Among others: packed = alone, gradients reach every parameter, turning changes nothing."""
    check_component(Kind.STRUCT, name, **small[name])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pyg_gcn", {"norm": "batch", "dropout": 0.1, "concat_hidden": False}),
        ("pyg_sage", {"norm": "none", "aggregation": "max"}),
        ("pyg_egnn", {"move_atoms": False, "gated": True, "norm": "none", "dropout": 0.1}),
        ("pyg_gat", {"version": 1, "use_relations": False, "attention_dropout": 0.1}),
        ("pyg_rgcn", {"num_bases": 2, "aggregation": "sum"}),
        ("pyg_gps", {"norm": "batch", "dropout": 0.1, "attention_dropout": 0.1}),
    ],
)
def test_contract_is_kept_under_other_settings(name, changes, small) -> None:
    check_component(Kind.STRUCT, name, **small[name], **changes)


def test_gradients_are_finite_and_somewhere_not_zero(name, make, encode) -> None:
    """No parameter is carried along without any part in the result."""
    module = make(name).train()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    encoding = encode(module)
    (encoding.residue * torch.randn_like(encoding.residue)).sum().backward()
    idle = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # Softmax cancels what all neighbours have in common: a key's bias moves attention nowhere.
    assert [n for n in idle if not n.endswith("lin_key.bias")] == []


def test_structure_matters_to_those_that_know_distances(name, make, encode) -> None:
    """Stretched by a tenth on the same graph, proteins look the same only to encoders without distances."""
    module, batch = make(name), example_batch()
    graph = ExampleGraph()(batch)
    stretched = batch.replace(backbone=1.1 * batch.backbone)
    same = torch.equal(encode(module, batch, graph).residue, encode(module, stretched, graph).residue)
    assert same == (name in DISTANCE_BLIND)


def test_relations_matter_to_those_that_know_them(name, make, encode) -> None:
    module, batch = make(name), example_batch()
    graph = ExampleGraph()(batch)
    other = ResidueGraph.from_edges(graph.edge_index, 3 - graph.relation, 4)
    found, expected = encode(module, batch, other).residue, encode(module, batch, graph).residue
    assert torch.allclose(found, expected, atol=1e-5) == (name in RELATION_BLIND)


@pytest.mark.parametrize("name", RELATION_BLIND)
def test_a_pair_that_several_relations_join_counts_once(name, make, encode) -> None:
    module, batch = make(name), example_batch()
    graph = ExampleGraph()(batch)
    twice = ResidueGraph.from_edges(
        graph.edge_index.repeat(1, 2), torch.cat([graph.relation, (graph.relation + 1) % 4]), 4
    )
    assert torch.equal(encode(module, batch, twice).residue, encode(module, batch, graph).residue)


def test_neighbours_are_seen(name, make, encode) -> None:
    """Without edges the representations are others: each encoder sends messages along them."""
    module, batch = make(name), example_batch()
    graph = ExampleGraph()(batch)
    empty = graph.keep_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    found = encode(module, batch, empty).residue
    assert not torch.allclose(found, encode(module, batch, graph).residue, atol=1e-3)


@pytest.mark.parametrize("name", LAYERED)
def test_layers_are_put_side_by_side_or_the_last_is_taken(name, make, encode) -> None:
    both, last = make(name), make(name, concat_hidden=False)
    last.load_state_dict(both.state_dict())
    assert (both.output_dim, last.output_dim) == (32, 16)
    assert torch.equal(encode(both).residue[:, 16:], encode(last).residue)


@pytest.mark.parametrize("name", ["pyg_gat", "pyg_gps", "pyg_transformer"])
def test_heads_must_share_the_width_evenly(name, make) -> None:
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads"):
        make(name, hidden_dim=18)
