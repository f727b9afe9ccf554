"""GVP against a plain version of its formulas, one residue and one edge at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from esmgn_gvp.encoder import GVPGNN

# The plain version: a residue or edge is a pair of scalars [s] and a list of vectors [v, 3], in float64.


def plain_length(vector: Tensor) -> Tensor:
    return torch.clamp((vector * vector).sum(), min=1e-8).sqrt()


def plain_gvp(p, scalars: Tensor, vectors: Tensor, *, out_vectors: int, relu: bool) -> tuple[Tensor, Tensor]:
    if len(vectors) == 0:
        out = p.scalar.weight @ scalars + p.scalar.bias
        new = scalars.new_zeros(out_vectors, 3)
    else:
        hidden = p.hidden.weight @ vectors
        norms = torch.stack([plain_length(vector) for vector in hidden])
        out = p.scalar.weight @ torch.cat([scalars, norms]) + p.scalar.bias
        new = scalars.new_zeros(0, 3)
        if out_vectors:
            gate = 1 / (1 + torch.exp(-(p.gate.weight @ out + p.gate.bias)))
            new = gate[:, None] * (p.vector.weight @ hidden)
    return (out.clamp(min=0) if relu else out), new


def plain_norm(p, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    mean_square = torch.stack([plain_length(vector) ** 2 for vector in vectors]).mean()
    normed = layer_norm(scalars, scalars.shape, p.scalars.weight, p.scalars.bias)
    return normed, vectors / mean_square.sqrt()


def plain_message(p, one, edge, other, num_vectors: int) -> tuple[Tensor, Tensor]:
    scalars, vectors = (torch.cat(parts) for parts in zip(one, edge, other, strict=True))
    scalars, vectors = plain_gvp(p.first, scalars, vectors, out_vectors=num_vectors, relu=True)
    scalars, vectors = plain_gvp(p.second, scalars, vectors, out_vectors=num_vectors, relu=True)
    return plain_gvp(p.third, scalars, vectors, out_vectors=num_vectors, relu=False)


def plain_layer(p, nodes: list, edges: dict, settings: GVPGNN.Settings) -> list:
    updated = []
    for i, (scalars, vectors) in enumerate(nodes):
        incoming = [
            plain_message(p.messages, nodes[j], edge, nodes[i], settings.vector_dim)
            for (j, target), edge in edges.items()
            if target == i
        ]
        if incoming:
            scalars = scalars + sum(message[0] for message in incoming) / len(incoming)
            vectors = vectors + sum(message[1] for message in incoming) / len(incoming)
        scalars, vectors = plain_norm(p.message_norm, scalars, vectors)
        wide = plain_gvp(p.feed_forward[0], scalars, vectors, out_vectors=2 * settings.vector_dim, relu=True)
        more = plain_gvp(p.feed_forward[1], *wide, out_vectors=settings.vector_dim, relu=False)
        updated.append(plain_norm(p.feed_forward_norm, scalars + more[0], vectors + more[1]))
    return updated


def plain_gvpgnn(model: GVPGNN, ca: Tensor, pairs: list[list[int]], features: Tensor) -> Tensor:
    """Residue representations of one protein; ``model`` in float64 only holds the parameters."""
    settings, none = model.settings, features.new_zeros(0, 3)
    nodes = []
    for feature in features:
        scalars = model.node_projection.weight @ feature
        scalars = layer_norm(scalars, scalars.shape, model.node_norm.weight, model.node_norm.bias)
        nodes.append(plain_gvp(model.node_input, scalars, none, out_vectors=settings.vector_dim, relu=False))
    edges = {}
    for j, i in zip(*pairs, strict=True):
        vector = ca[i] - ca[j]
        distance = (vector * vector).sum().sqrt()
        basis = torch.stack([torch.exp(-(((distance - 20 * k / 15) / 1.25) ** 2)) for k in range(16)])
        scalars, vectors = plain_norm(model.edge_norm, basis, vector[None])
        edges[j, i] = plain_gvp(
            model.edge_input, scalars, vectors, out_vectors=settings.edge_vector_dim, relu=False
        )
    for layer in model.layers:
        nodes = plain_layer(layer, nodes, edges, settings)
    outputs = [
        plain_gvp(model.output, *plain_norm(model.output_norm, *node), out_vectors=0, relu=True)
        for node in nodes
    ]
    return torch.stack([scalars for scalars, _ in outputs])


@pytest.mark.parametrize("name", ["single", "pair", "two_chains"])
def test_equals_the_plain_formula(name, make_model, pack, radius_graph, difference, small):
    model, batch = make_model(**small), pack(name)
    batch = batch.select(torch.arange(batch.num_residues) < 22)
    graph, features = radius_graph(batch), torch.randn(batch.num_residues, 21)
    found = model(batch, graph, features)
    expected = plain_gvpgnn(
        copy.deepcopy(model).double(), batch.ca.double(), graph.edge_index.tolist(), features.double()
    )
    assert difference(found.residue, expected) < 1e-5
    assert difference(found.protein[0], expected.mean(0)) < 1e-5


def test_published_size_equals_the_plain_formula(make_model, pack, radius_graph, difference):
    model, batch = make_model(), pack("predicted")
    batch = batch.select(torch.arange(33) < 7)
    graph, features = radius_graph(batch), batch.residue_one_hot
    with torch.no_grad():
        found = model(batch, graph, features).residue
        double = copy.deepcopy(model).double()
        expected = plain_gvpgnn(double, batch.ca.double(), graph.edge_index.tolist(), features.double())
    assert difference(found, expected) < 1e-5


def test_gradients_equal_those_of_the_plain_formula(make_model, pack, radius_graph, small):
    model, batch = make_model(**small), pack("predicted")
    batch = batch.select(torch.arange(33) < 14)
    graph, features = radius_graph(batch), torch.randn(batch.num_residues, 21)
    double = copy.deepcopy(model).double()
    weight = torch.randn(batch.num_residues, 24, dtype=torch.float64)
    (model(batch, graph, features).residue * weight).sum().backward()
    expected = plain_gvpgnn(double, batch.ca.double(), graph.edge_index.tolist(), features.double())
    (expected * weight).sum().backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in double.parameters())
    for (name, found), parameter in zip(model.named_parameters(), double.parameters(), strict=True):
        assert float((found.grad - parameter.grad).abs().max()) < 1e-5 * largest, name
        assert float(found.grad.abs().max()) > 1e-7 * largest, f"{name} has no gradient"
