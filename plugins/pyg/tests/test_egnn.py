"""Claims about EGNN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from esmgn_core.testing import ExampleGraph, example_batch
from esmgn_pyg.edges import plain_edges
from esmgn_pyg.egnn import EGNN, EGNNLayer


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Representations, CA atoms, pairs of two residues and their relations."""
    torch.manual_seed(1)
    batch = example_batch()
    pairs, relations = plain_edges(ExampleGraph()(batch))
    kept = pairs[0] != pairs[1]
    return torch.randn(batch.num_residues, 8), batch.ca.float() / 10, pairs[:, kept], relations[kept]


def layer(*, moves: bool = True, gated: bool = False) -> EGNNLayer:
    """With steps of some size: those of a new layer hardly move an atom."""
    torch.manual_seed(0)
    made = EGNNLayer(EGNN.Settings(hidden_dim=8, gated=gated), 4, moves=moves)
    if made.step is not None:
        nn.init.normal_(made.step[-1].weight)
    return made


@pytest.mark.parametrize("gated", [False, True])
def test_a_layer_equals_the_papers_formula_edge_by_edge(gated, inputs) -> None:
    hidden, atoms, pairs, relations = inputs
    module = layer(gated=gated)
    weight = torch.cat([module.from_target.weight, module.from_source.weight, module.from_edge.weight], dim=1)
    total, steps = torch.zeros_like(hidden), [[] for _ in hidden]
    for (source, target), relation in zip(pairs.T.tolist(), relations, strict=True):
        apart = atoms[target] - atoms[source]
        known = torch.cat([hidden[target], hidden[source], apart.dot(apart).view(1), relation])
        message = module.edge(weight @ known + module.from_edge.bias)
        steps[target].append(apart / (apart.norm() + 1) * module.step(message))
        total[target] += message * module.gate(message) if gated else message
    moved = torch.stack(
        [atom + (torch.stack(own).mean(0) if own else 0) for atom, own in zip(atoms, steps, strict=True)]
    )
    update, found = module(hidden, atoms, pairs, relations)
    expected = module.node(torch.cat([hidden, total], dim=1))
    assert (update - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (found - moved).abs().max() < 1e-5 * moved.abs().max()
    assert (moved - atoms).abs().max() > 0.01


def test_atoms_turn_with_the_protein_and_representations_do_not(inputs) -> None:
    """Turned, mirrored and shifted: E(3), not only rotations."""
    hidden, atoms, pairs, relations = inputs
    turn, _ = torch.linalg.qr(torch.randn(3, 3))
    module, shift = layer(), torch.tensor([3.0, -2.0, 1.0])
    for motion in (turn, -turn):
        expected, moved = module(hidden, atoms, pairs, relations)
        found, moved_too = module(hidden, atoms @ motion + shift, pairs, relations)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        assert (moved @ motion + shift - moved_too).abs().max() < 1e-4


def test_moved_atoms_matter_to_the_next_layer(make, encode) -> None:
    """The whole encoder is invariant with them, and gives other values than without."""
    module, batch = make("pyg_egnn", num_layers=3), example_batch()
    nn.init.normal_(module.layers[0].step[-1].weight)
    turn, _ = torch.linalg.qr(torch.randn(3, 3))
    graph = ExampleGraph()(batch)
    expected = encode(module, batch, graph).residue
    found = encode(module, batch.replace(backbone=batch.backbone @ turn + 5), graph).residue
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    nn.init.zeros_(module.layers[0].step[-1].weight)
    assert not torch.allclose(encode(module, batch, graph).residue, expected, atol=1e-3)


def test_atoms_in_one_place_have_finite_gradients(make, encode) -> None:
    """Noise on coordinates may bring CA atoms together."""
    module, batch = make("pyg_egnn", num_layers=3).train(), example_batch()
    backbone = batch.backbone.clone()
    backbone[60] = backbone[61]
    encode(module, batch.replace(backbone=backbone)).residue.sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in module.parameters())
