"""The fast convolution of GearNet equals the plain formula: one sum per residue and relation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.engine.distributed import synchronize_batch_norm
from esmgn_core.graph import ResidueGraph
from esmgn_gearnet import neighborhoods as module
from esmgn_gearnet.conv import RelationalConv
from esmgn_gearnet.encoder import GearNet
from esmgn_gearnet.graph import RelationalGraph
from esmgn_gearnet.neighborhoods import Neighborhoods


def plain_conv(conv: RelationalConv, graph: ResidueGraph, features: Tensor) -> Tensor:
    """Equation 1 of Zhang et al. 2023, relation by relation."""
    update = conv.linear.bias + conv.self_loop(features)
    for relation, weight in enumerate(conv.linear.weight.split(features.shape[1], dim=1)):
        source, target = graph.edge_index[:, graph.relation == relation]
        update = update + torch.zeros_like(features).index_add(0, target, features[source]) @ weight.T
    return functional.relu(conv.batch_norm(update))


def plain_net(net: GearNet, graph: ResidueGraph, features: Tensor) -> Tensor:
    hidden, hiddens = features, []
    for conv, batch_norm in zip(net.layers, net.batch_norms, strict=True):
        assert isinstance(conv, RelationalConv)
        update = plain_conv(conv, graph, hidden)
        if net.settings.short_cut and update.shape == hidden.shape:
            update = update + hidden
        hidden = batch_norm(update)
        hiddens.append(hidden)
    return torch.cat(hiddens, dim=1)


def protein(ca: Tensor, chain_index: Tensor) -> Protein:
    backbone = torch.full((len(ca), 4, 3), torch.nan)
    backbone[:, CA] = ca
    zeros = torch.zeros(len(ca), dtype=torch.int64)
    return Protein("made", zeros, backbone, ~backbone.isnan().any(-1), zeros, chain_index)


def batch_of_chains() -> ProteinBatch:
    """Proteins of 40, 1, 2 and 25 residues, the last one of two chains."""
    generator = torch.Generator().manual_seed(0)
    walks = [2 * torch.randn(n, 3, generator=generator).cumsum(0) for n in (40, 1, 2, 25)]
    chains = [torch.zeros(len(walk), dtype=torch.int64) for walk in walks]
    chains[3][10:] = 1
    return ProteinBatch.from_proteins([protein(*pair) for pair in zip(walks, chains, strict=True)])


def drawn(**settings: int) -> ResidueGraph:
    return RelationalGraph(RelationalGraph.Settings(**settings))(batch_of_chains())


def thinned(removed: Tensor | slice) -> ResidueGraph:
    graph = drawn()
    keep = torch.ones(graph.num_edges, dtype=torch.bool)
    keep[removed] = False
    return graph.keep_edges(keep)


def random_graph(num_relations: int, num_edges: int) -> ResidueGraph:
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(68, (2, num_edges), generator=generator)
    relation = torch.randint(num_relations, (num_edges,), generator=generator)
    return ResidueGraph.from_edges(edges, relation, num_relations)


def lopsided_loops() -> ResidueGraph:
    """As many self-loops as residues, but the first one twice and the last one missing."""
    loops = torch.arange(68)
    loops[-1] = 0
    other = random_graph(2, 100)
    edges = torch.cat([other.edge_index, loops.expand(2, -1)], dim=1)
    return ResidueGraph.from_edges(edges, torch.cat([other.relation, torch.full((68,), 2)]), 3)


GRAPHS = {
    "relational": drawn,
    "max_offset=0": lambda: drawn(max_offset=0),
    "max_offset=4": lambda: drawn(max_offset=4),
    "edges removed": lambda: thinned(torch.arange(0, drawn().num_edges, 6)),
    "one self-loop removed": lambda: thinned(int((drawn().relation == 2).nonzero()[3])),
    "random relations, repeated edges": lambda: random_graph(3, 2000),
    "self-loops repeated and missing": lopsided_loops,
    "no edges": lambda: thinned(slice(None)),
    "one relation": lambda: random_graph(1, 90),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", GRAPHS)
def test_outputs_and_gradients_equal_the_plain_formula(
    case: str, *, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-12 in double precision, whatever edges there are; several blocks in each direction."""
    monkeypatch.setitem(module._BLOCK_BYTES, "cpu", 20_000)
    torch.manual_seed(3)
    graph, batch = GRAPHS[case](), batch_of_chains()
    settings = GearNet.Settings(hidden_dim=16, num_layers=3)
    net = GearNet(settings, input_dim=8, num_relations=graph.num_relations).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    features = torch.randn(68, 8, dtype=torch.float64)
    weights = torch.randn(68, 48, dtype=torch.float64)
    found = []
    for run in (lambda net, x: net(batch, graph, x).residue, lambda net, x: plain_net(net, graph, x)):
        ours, x = copy.deepcopy(net).train(training), features.clone().requires_grad_()
        output = run(ours, x)
        (output * weights).sum().backward()
        assert x.grad is not None
        found.append(
            {
                "output": output.detach(),
                "input": x.grad,
                **{name: p.grad for name, p in ours.named_parameters()},
                **dict(ours.named_buffers()),
            }
        )
    for name, expected in found[1].items():
        scale = expected.abs().max().clamp(min=1)
        assert float((found[0][name] - expected).abs().max() / scale) < 1e-12, name


@pytest.mark.parametrize("case", ["relational", "edges removed"])
@pytest.mark.parametrize("wanted", ["features", "self_weight", "weight", "bias"])
def test_only_the_wanted_gradients_are_computed(wanted: str, case: str) -> None:
    graph = GRAPHS[case]()
    edges = Neighborhoods(graph, 68)
    shapes = {"features": (68, 4), "self_weight": (5, 4), "weight": (5, 28), "bias": (5,)}
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    inputs[wanted].requires_grad_()
    module.relational_sum(edges, *inputs.values()).sum().backward()
    assert [name for name, tensor in inputs.items() if tensor.grad is not None] == [wanted]


def test_self_relation_is_recognised_only_when_complete() -> None:
    found = {case: Neighborhoods(make(), 68).identity for case, make in GRAPHS.items()}
    assert {case: number for case, number in found.items() if number is not None} == {
        "relational": 2,
        "max_offset=0": 0,
        "max_offset=4": 4,
    }


def test_backward_keeps_one_tensor_per_layer_beside_the_output() -> None:
    """Each layer keeps its linear part; its input is a part of the output. Never a sum per relation."""
    graph, batch = drawn(), batch_of_chains()
    net = GearNet(GearNet.Settings(hidden_dim=64, num_layers=4), input_dim=8, num_relations=7)
    parameters = {parameter.data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and tensor.shape[0] == batch.num_residues:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encoding = net(batch, graph, torch.randn(68, 8))
    del kept[encoding.residue.untyped_storage().data_ptr()]
    hidden = 68 * 64 * 4
    row_of_protein = 68 * 8
    assert sum(kept.values()) <= 4 * hidden + 68 * 8 * 4 + row_of_protein


def test_output_changed_in_place_is_noticed() -> None:
    """The layers read the output in their backward passes: a changed one would give wrong gradients."""
    graph, batch = drawn(), batch_of_chains()
    net = GearNet(GearNet.Settings(hidden_dim=8, num_layers=2), input_dim=8, num_relations=7)
    encoding = net(batch, graph, torch.randn(68, 8))
    with pytest.raises(RuntimeError, match="modified inplace"):
        encoding.residue.mul_(2)
    encoding.residue.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified inplace"):
        encoding.residue.sum().backward()


def test_statistics_over_processes(tmp_path: Path) -> None:
    """With batch normalisations that run over processes, here one, the net gives the same."""
    graph, batch = drawn(), batch_of_chains()
    plain = GearNet(GearNet.Settings(hidden_dim=8, num_layers=3), input_dim=8, num_relations=7)
    synced, features = copy.deepcopy(plain), torch.randn(68, 8)
    synchronize_batch_norm(synced)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        found = []
        for net in (plain, synced):
            x = features.clone().requires_grad_()
            output = net(batch, graph, x).residue
            (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
            assert x.grad is not None
            found.append([output.detach(), x.grad, *net.buffers()])
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_close() -> None:
    graph, batch = drawn(), batch_of_chains()
    net = GearNet(GearNet.Settings(hidden_dim=32, num_layers=2), input_dim=8, num_relations=7)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            encoding = net(batch, graph, torch.linspace(-1, 1, 68 * 8).view(68, 8))
        (encoding.residue.float() * torch.linspace(-1, 1, 64)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
        net.zero_grad()
    difference = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 0 < float(difference) < 0.1
