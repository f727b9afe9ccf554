"""GearNet-IEConv equals a version that goes edge by edge, and its frames a version residue by residue."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_gearnet.edge_features import edge_features
from esmgn_gearnet.frames import local_frames, pair_features
from esmgn_gearnet.graph import RelationalGraph
from esmgn_gearnet.ieconv import IEConv
from esmgn_gearnet.ieconv_encoder import GearNetIEConv
from esmgn_gearnet.line_graph import line_graph


def protein(ca: Tensor, chain_index: Tensor) -> Protein:
    backbone = torch.full((len(ca), 4, 3), torch.nan)
    backbone[:, CA] = ca
    number = torch.arange(len(ca))
    return Protein("made", number % 20, backbone, ~backbone.isnan().any(-1), number, chain_index)


def made_batch() -> ProteinBatch:
    """Proteins of 14, 1, 2 and 9 residues, the last one of chains of 4 and 5."""
    generator = torch.Generator().manual_seed(0)
    walks = [2 * torch.randn(n, 3, generator=generator).cumsum(0) for n in (14, 1, 2, 9)]
    chains = [torch.zeros(len(walk), dtype=torch.int64) for walk in walks]
    chains[3][4:] = 1
    return ProteinBatch.from_proteins([protein(*pair) for pair in zip(walks, chains, strict=True)])


BATCH = made_batch()
GRAPH = RelationalGraph(RelationalGraph.Settings(min_separation=2, radius=8.0, num_neighbors=3))(BATCH)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def frame(before: Tensor, after: Tensor) -> Tensor:
    bisector, normal = unit(before - after), unit(torch.linalg.cross(before, after))
    return torch.stack([bisector, normal, torch.linalg.cross(bisector, normal)])


def test_frames_of_inner_residues_and_of_ends() -> None:
    frames, ca, first = local_frames(BATCH), BATCH.ca, 0
    for length in (14, 1, 2, 4, 5):
        for row in range(length):
            if length < 3:
                expected = torch.zeros(3, 3)
            else:
                middle = first + min(max(row, 1), length - 2)
                expected = frame(unit(ca[middle] - ca[middle - 1]), unit(ca[middle + 1] - ca[middle]))
            torch.testing.assert_close(frames[first + row], expected, rtol=1e-4, atol=1e-5)
        first += length


def test_frames_of_the_original_ignore_the_ends_of_proteins() -> None:
    frames, ca = local_frames(BATCH, packed=True), BATCH.ca
    fill = torch.full((3,), 1 / math.sqrt(3))
    steps = [fill, *(unit(after - before) for before, after in itertools.pairwise(ca)), fill]
    for row in range(len(ca)):
        torch.testing.assert_close(frames[row], frame(*steps[row : row + 2]), rtol=1e-4, atol=1e-5)


def test_pair_features() -> None:
    """Seven numbers in the source's frame, then what is left of one after twice their size."""
    frames, ca = local_frames(BATCH), BATCH.ca
    features = pair_features(BATCH, frames, GRAPH.edge_index)
    for row, (j, i) in enumerate(GRAPH.edge_index.T.tolist()):
        expected = [float(axis @ (ca[i] - ca[j])) for axis in frames[j]]
        expected += [float(frames[j, k] @ frames[i, k]) for k in range(3)]
        expected.append(abs(i - j) / 6)
        expected += [1 - 2 * abs(value) for value in expected]
        torch.testing.assert_close(features[row], torch.tensor(expected), rtol=1e-4, atol=1e-4)


def plain_ieconv(conv: IEConv, edge_index: Tensor, features: Tensor, edges: Tensor) -> Tensor:
    """A filter for every edge."""
    source, target = edge_index
    hidden = functional.relu(conv.input_batch_norm(features))
    message = functional.relu(conv.message_batch_norm(conv.input_linear(hidden[source])))
    filtered = []
    for row in range(len(target)):
        filters = conv.kernel_out(functional.relu(conv.kernel_in(edges[row])))
        filters = filters.view(conv.hidden_dim + 1, conv.hidden_dim)
        filtered.append(filters[1:] @ message[row] + filters[0])
    update = features.new_zeros(len(features), conv.hidden_dim).index_add(0, target, torch.stack(filtered))
    update = functional.relu(conv.update_batch_norm(update))
    return conv.output_batch_norm(conv.output_linear(update))


def plain_conv(conv: nn.Module, graph: ResidueGraph, features: Tensor, edges: Tensor | None) -> Tensor:
    message = features[graph.edge_index[0]]
    if edges is not None:
        message = message + edges
    group = graph.edge_index[1] * graph.num_relations + graph.relation
    num_nodes = int(graph.edge_index[1].max()) + 1
    sums = message.new_zeros(num_nodes * graph.num_relations, message.shape[1]).index_add(0, group, message)
    update = conv.get_submodule("linear")(sums.view(num_nodes, -1))
    return functional.relu(conv.get_submodule("batch_norm")(update))


def plain_net(net: GearNetIEConv, features: Tensor) -> Tensor:
    line = line_graph(GRAPH, BATCH.ca, net.settings.num_angle_bins)
    pairs = pair_features(BATCH, local_frames(BATCH), GRAPH.edge_index).double()
    edges = edge_features(BATCH, GRAPH).double()
    hidden, hiddens = net.embedding_batch_norm(net.linear(features)), []
    for conv, edge_conv, ieconv, norm in zip(
        net.layers, net.edge_layers, net.ieconvs, net.layer_norms, strict=True
    ):
        edges = plain_conv(edge_conv, line, edges, None)
        assert isinstance(ieconv, IEConv)
        update = plain_conv(conv, GRAPH, hidden, edges) + plain_ieconv(
            ieconv, GRAPH.edge_index, hidden, pairs
        )
        hidden = norm(update + hidden)
        hiddens.append(hidden)
    return torch.cat(hiddens, dim=1)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_and_gradients_equal_the_plain_version(
    *, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, to 1e-10 in double precision; several blocks of residues."""
    monkeypatch.setattr("esmgn_gearnet.ieconv._MAX_PRODUCTS_PER_BLOCK", 1000)
    torch.manual_seed(2)
    net = GearNetIEConv(GearNetIEConv.Settings(hidden_dim=12, num_layers=2), input_dim=5, num_relations=7)
    net = net.double().train(training)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    features, weights = torch.randn(26, 5, dtype=torch.float64), torch.randn(26, 24, dtype=torch.float64)
    found = []
    for run in (lambda net, x: net(BATCH, GRAPH, x).residue, plain_net):
        ours, x = copy.deepcopy(net), features.clone().requires_grad_()
        output = run(ours, x)
        (output * weights).sum().backward()
        gradients = {name: p.grad for name, p in ours.named_parameters()}
        found.append({"output": output.detach(), "input": x.grad, **gradients, **dict(ours.named_buffers())})
    for name, expected in found[1].items():
        assert expected is not None, name
        scale = expected.abs().max().clamp(min=1)
        assert float((found[0][name] - expected).abs().max() / scale) < 1e-10, name


def test_only_the_reference_lets_neighbours_in_a_batch_change_a_protein() -> None:
    alone = ProteinBatch.from_proteins([protein(BATCH.ca[:14], torch.zeros(14, dtype=torch.int64))])
    assert torch.equal(local_frames(alone), local_frames(BATCH)[:14])
    assert not torch.allclose(local_frames(alone, packed=True), local_frames(BATCH, packed=True)[:14])
