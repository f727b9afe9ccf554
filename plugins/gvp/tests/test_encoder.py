"""What GVP promises: symmetries, independence of proteins, dropout, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from esmgn_core import Kind
from esmgn_core.alphabet import MASKED, UNKNOWN
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import check_component
from esmgn_gvp.encoder import GVPGNN
from esmgn_gvp.features import FeatureDropout, Features


def moved(batch: ProteinBatch, *, mirror: bool = False) -> ProteinBatch:
    torch.manual_seed(11)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn *= turn.det() * (-1 if mirror else 1)
    place = batch.backbone.double() @ turn + torch.tensor([30.0, -12.0, 5.0], dtype=torch.float64)
    return batch.replace(backbone=place.float())


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
    """One chain of made-up residues, dense enough to fill the cap on neighbours now and then."""
    number = torch.arange(length, dtype=torch.float64)
    helix = torch.stack(
        [2.3 * (1.745 * number).cos(), 2.3 * (1.745 * number).sin(), 1.5 * (number % 60)], dim=1
    )
    row = number // 60
    ca = helix + 9.5 * torch.stack([row % 6, row // 6, 0 * row], dim=1)
    return ProteinBatch(
        residue_type=torch.arange(length) % 20,
        backbone=ca.float().unsqueeze(1).expand(-1, 4, -1).contiguous(),
        atom_mask=torch.ones(length, 4, dtype=torch.bool),
        residue_index=torch.arange(length),
        chain_index=torch.zeros(length, dtype=torch.int64),
        ptr=torch.tensor([0, length]),
        names=("chain",),
    )


@pytest.mark.parametrize(("input_dim", "expected"), [(1280, 6_633_048), (21, 4_670_267)])
def test_number_of_parameters_is_that_of_the_original(input_dim, expected):
    with torch.device("meta"):
        model = GVPGNN(GVPGNN.Settings(), input_dim=input_dim, num_relations=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model.output_dim == 256


@pytest.mark.parametrize("mirror", [False, True])
def test_rigid_motions_and_reflections_change_nothing(
    mirror, make_model, pack, radius_graph, difference, small
):
    """All scalars come from lengths, so that GVP does not even see the hand of a protein."""
    model, batch = make_model(**small), pack("long", "pair", "two_chains")
    features, other = torch.randn(batch.num_residues, 21), moved(batch, mirror=mirror)
    found = model(other, radius_graph(other), features)
    assert difference(found.residue, model(batch, radius_graph(batch), features).residue) < 1e-4


def test_vectors_turn_with_the_protein(make_model, pack, radius_graph, difference, small):
    model, batch = make_model(**small), pack("predicted")
    seen: list[Tensor] = []
    model.layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.vectors))
    features = torch.randn(batch.num_residues, 21)
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    for view in (batch, batch.replace(backbone=batch.backbone @ turn)):
        model(view, radius_graph(view), features)
    assert difference(turn.T @ seen[0], seen[1]) < 1e-4
    assert float(seen[0].detach().abs().max()) > 0.1


def test_packing_and_order_of_proteins_change_nothing(make_model, pack, radius_graph, difference, small):
    model, names = make_model(**small), ["two_chains", "single", "long", "pair", "predicted"]
    alone = {}
    for name in names:
        batch = pack(name)
        alone[name] = model(batch, radius_graph(batch), batch.residue_one_hot)
    for order in (names, names[::-1]):
        batch = pack(*order)
        found = model(batch, radius_graph(batch), batch.residue_one_hot)
        assert difference(found.residue, torch.cat([alone[name].residue for name in order])) < 1e-5
        assert difference(found.protein, torch.cat([alone[name].protein for name in order])) < 1e-5


def test_every_edge_counts_whatever_its_relation(make_model, pack, radius_graph, difference, small):
    model, batch = make_model(**small), pack("predicted")
    graph = radius_graph(batch)
    other = ResidueGraph(graph.edge_index, torch.arange(graph.num_edges) % 7, 7)
    features = torch.randn(batch.num_residues, 21)
    assert torch.equal(model(batch, graph, features).residue, model(batch, other, features).residue)
    without = graph.keep_edges(torch.arange(graph.num_edges) > 0)
    assert difference(model(batch, without, features).residue, model(batch, graph, features).residue) > 1e-4


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_proteins_train(length, make_model, pack, radius_graph, small):
    model = make_model(**small).train()
    batch = pack("long").select(torch.arange(120) < length)
    encoding = model(batch, radius_graph(batch), batch.residue_one_hot)
    encoding.protein.square().sum().backward()
    assert encoding.residue.shape == (length, 24)
    assert bool(encoding.residue.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_masked_and_unknown_residues_are_encoded(make_model, pack, radius_graph, difference, small):
    model, batch = make_model(**small), pack("predicted")
    kind = batch.residue_type.clone()
    kind[::2], kind[1::4] = MASKED, UNKNOWN
    hidden = batch.replace(residue_type=kind)
    found = model(hidden, radius_graph(hidden), hidden.residue_one_hot)
    assert bool(found.residue.isfinite().all())
    assert difference(found.residue, model(batch, radius_graph(batch), batch.residue_one_hot).residue) > 1e-3


def test_dropout_drops_whole_vectors_and_single_scalars():
    torch.manual_seed(5)
    features = Features(torch.ones(400, 30), torch.ones(400, 3, 20))
    dropped = FeatureDropout(0.25).train()(features)
    x, y, z = dropped.vectors.unbind(1)
    assert torch.equal(x, y)
    assert torch.equal(x, z)
    for share in (x, dropped.scalars):
        assert torch.allclose(share, torch.where(share == 0, 0.0, 1 / 0.75))
        assert abs(float((share == 0).double().mean()) - 0.25) < 0.03
    assert FeatureDropout(0.25).eval()(features) is features


def test_dropout_is_on_both_branches_in_training_only(make_model, pack, radius_graph, difference, small):
    model, batch = make_model(**small, dropout=0.5), pack("predicted")
    calls = []
    for module in model.modules():
        if isinstance(module, FeatureDropout):
            module.register_forward_hook(lambda *arguments: calls.append(arguments))
    graph, features = radius_graph(batch), batch.residue_one_hot
    evaluated = [model.eval()(batch, graph, features).residue for _ in range(2)]
    assert len(calls) == 2 * 2 * model.settings.num_layers
    assert torch.equal(*evaluated)
    trained = [model.train()(batch, graph, features).residue for _ in range(2)]
    assert difference(*trained) > 1e-2


def test_joined_inputs_of_edges_are_never_made(make_model, radius_graph):
    """On 2,000 residues: an edge's joined scalars would be 225 numbers, its hidden vectors are 99."""
    batch = chain(2000)
    graph = radius_graph(batch)
    model = make_model(num_layers=1, scalar_dim=64)
    largest = Largest()
    with largest:
        model(batch, graph, batch.residue_one_hot).protein.sum().backward()
    assert graph.num_edges > 15 * 2000
    assert largest.numel <= 99 * graph.num_edges


def test_messages_made_again_change_nothing(make_model, pack, radius_graph, difference, small, monkeypatch):
    """Outputs and gradients, whatever the blocks; residues without a neighbour are among them."""
    monkeypatch.setattr("esmgn_gvp.layer._EDGES_PER_BLOCK", 40)
    batch = pack("two_chains", "single", "pair")
    graph = radius_graph(batch)
    graph = graph.keep_edges(graph.edge_index[1] % 5 != 0)
    found = []
    for kept in (10**6, 0):
        model = make_model(**small, max_edges_kept=kept, dropout=0.0)
        features = batch.residue_one_hot.requires_grad_()
        encoding = model(batch, graph, features)
        (encoding.residue * torch.linspace(-1, 1, encoding.residue.shape[1])).sum().backward()
        found.append([encoding.residue, features.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert difference(one, other) < 2e-5


def test_messages_made_again_are_not_kept(make_model, radius_graph):
    """A layer then keeps less than 2 KB for an edge, in place of 8."""
    batch = chain(500)
    graph, kept = radius_graph(batch), {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    sizes = []
    for num_layers in (1, 2):
        model = make_model(num_layers=num_layers, max_edges_kept=0)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(batch, graph, batch.residue_one_hot)
        sizes.append(sum(kept.values()) - sum(p.nbytes for p in model.parameters()))
    assert sizes[1] - sizes[0] < 2000 * graph.num_edges


def test_gvp_keeps_the_contract_of_a_structure_encoder(small):
    check_component(Kind.STRUCT, "gvp", **small)
