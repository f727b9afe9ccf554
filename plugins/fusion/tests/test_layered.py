"""Fusers that run encoders layer by layer, against their formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core import Kind, load
from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.errors import SettingsError
from esmgn_core.graph import ResidueGraph
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.layers import LayerSizes
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import JointEncoder
from esmgn_core.settings import RunConfig
from esmgn_core.testing import example_batch, example_proteins
from esmgn_esm2.tokens import ALPHABET
from esmgn_fusion.inject import InjectFuser
from esmgn_fusion.token import TokenFuser, visits

SEQ = {"name": "esm2", "weights": "random", "num_layers": 4, "embed_dim": 16, "attention_heads": 2}
STRUCT = {"name": "gearnet", "num_layers": 2, "hidden_dim": 12}


def tables(fuser: str, /, **changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of a run; ``changes`` add keys to a table, or replace it if they name another component."""
    parts: dict[str, dict[str, Any]] = {
        "seq": SEQ,
        "struct": STRUCT,
        "fuse": {"name": fuser},
        "graph": {"name": "relational"},
    }
    for kind, change in changes.items():
        known = parts.get(kind, {})
        parts[kind] = change if change.get("name", known.get("name")) != known.get("name") else known | change
    return parts


def joint(fuser: str, /, **changes: dict[str, Any]) -> JointEncoder:
    """A model in evaluation mode in which every parameter differs from its initial value."""
    registry = discover()
    encoder = resolve(registry, configure(registry, [tables(fuser, **changes)])).encoder()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter += 0.5
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                assert module.running_mean is not None and module.running_var is not None  # noqa: PT018
                module.running_mean.normal_(generator=generator).mul_(0.1)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return encoder.eval()


def example(name: str = "relational") -> tuple[ProteinBatch, ResidueGraph]:
    """The example proteins and a graph of them."""
    registry, batch = discover(), example_batch()
    graph = resolve(registry, configure(registry, [tables("serial", graph={"name": name})])).graph()
    return batch, graph(batch)


# Token


@pytest.mark.parametrize(
    ("blocks", "layers", "expected"),
    [
        (33, 6, (6, 11, 16, 21, 26, 31)),
        (6, 6, (1, 2, 3, 4, 5, 6)),
        (30, 6, (5, 10, 14, 19, 24, 28)),
        (4, 2, (1, 2)),
    ],
)
def test_visits_are_spread_evenly(blocks: int, layers: int, expected: tuple[int, ...]) -> None:
    assert visits("auto", blocks, layers) == expected


@pytest.mark.parametrize("after", ["auto", (3, 2), (0, 1), (1, 5), (1,)])
def test_impossible_visits_are_refused(after: object) -> None:
    blocks = 1 if after == "auto" else 4
    with pytest.raises(SettingsError, match="the token visits 2 layers"):
        visits(after, blocks, 2)  # type: ignore[arg-type]  # also wrong ones


def test_the_published_size() -> None:
    """7,907,072 parameters as published, without the first map down, which is never used."""
    with torch.device("meta"):
        fuser = TokenFuser(
            TokenFuser.Settings(),
            sequence_dim=1280,
            structure_dim=3072,
            layers={Kind.SEQ: LayerSizes(33, 1280), Kind.STRUCT: LayerSizes(6, 512)},
        )
    assert sum(parameter.numel() for parameter in fuser.parameters()) == 7_907_072 - 655_872


@torch.no_grad()
def test_one_protein_follows_the_formulas() -> None:
    encoder = joint("token").double()
    batch = ProteinBatch.from_proteins([example_proteins()[4]])
    graph = example_graph(batch)
    actual = encoder(batch, graph)
    residue, protein = by_formula(encoder, batch, graph)
    torch.testing.assert_close(actual.residue, residue, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(actual.protein[0], protein, rtol=1e-6, atol=1e-6)


def example_graph(batch: ProteinBatch) -> ResidueGraph:
    registry = discover()
    graph: ResidueGraph = resolve(registry, configure(registry, [tables("serial")])).graph()(batch)
    return graph


def by_formula(encoder: JointEncoder, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, Tensor]:
    """Residues and protein, for one protein, from dense matrices."""
    model = encoder.get_submodule("sequence").model
    gearnet, fuser = encoder.get_submodule("structure"), encoder.get_submodule("fuser")
    number = batch.num_residues
    names = ["<cls>", *batch_letters(batch), "<eos>", "<eos>"]
    tokens = torch.tensor([ALPHABET.index(name) for name in names])
    hidden = model.embed_tokens.weight[tokens] * 0.88
    hidden[number + 1] = fuser.token
    relations = torch.zeros(graph.num_relations, number + 1, number + 1, dtype=torch.float64)
    relations[graph.relation, graph.edge_index[1], graph.edge_index[0]] = 1
    relations[1, number, :number] = relations[1, :number, number] = 1
    below = normalized(fuser.norm, fuser.features(batch.residue_one_hot.double()))
    outputs = []
    for number_of_block, layer in enumerate(model.layers, start=1):
        hidden = block(layer, hidden)
        if number_of_block > len(gearnet.layers):
            continue
        k = number_of_block - 1  # visits after the blocks 1 and 2
        token = hidden[number + 1]
        down = token if k == 0 else fuser.down[k - 1](token)
        nodes = torch.cat([below[:number], down.unsqueeze(0)])
        conv = gearnet.layers[k]
        update = conv.self_loop(nodes) + conv.linear.bias
        for relation, weight in zip(relations, conv.linear.weight.split(nodes.shape[1], dim=1), strict=True):
            update = update + relation @ nodes @ weight.T
        update = functional.relu(normalized(conv.batch_norm, update))
        below = normalized(gearnet.batch_norms[k], update + (nodes if k else 0))
        outputs.append(below[:number])
        hidden[number + 1] = fuser.up[k](below[number])
    sequence = functional.layer_norm(
        hidden[1 : number + 1],
        hidden.shape[1:],
        model.emb_layer_norm_after.weight,
        model.emb_layer_norm_after.bias,
    )
    structure = torch.cat(outputs, dim=1)
    return torch.cat([sequence, structure], dim=1), torch.cat([sequence.mean(0), structure.sum(0)])


def batch_letters(batch: ProteinBatch) -> str:
    return example_proteins()[4].sequence if batch.names == ("predicted",) else ""


def normalized(norm: nn.Module, rows: Tensor) -> Tensor:
    scaled = (rows - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


def block(layer: nn.Module, hidden: Tensor, additions: tuple[Tensor, ...] = ()) -> Tensor:
    """A block of ESM-2 on one sequence, with two heads, rotating halves as fair-esm."""
    attention, rows = layer.self_attn, layer.self_attn_layer_norm(hidden)
    projected = [part(rows) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
    if additions:
        projected = [one + other for one, other in zip(projected, additions, strict=True)]
    query, key, value = (part.view(len(rows), 2, -1).transpose(0, 1) for part in projected)
    half = query.shape[2] // 2
    angle = torch.arange(len(rows)).double()[:, None] / 10000 ** (torch.arange(half).double() / half)
    cosine, sine = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

    def rotated(vectors: Tensor) -> Tensor:
        turned = torch.cat([-vectors[..., half:], vectors[..., :half]], dim=-1)
        return vectors * cosine + turned * sine

    weights = (rotated(query) @ rotated(key).transpose(1, 2) / (2 * half) ** 0.5).softmax(-1)
    hidden = hidden + attention.out_proj((weights @ value).transpose(0, 1).flatten(1))
    after: Tensor = hidden + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    return after


@torch.no_grad()
def test_coordinates_reach_the_sequence_half_through_the_maps_up_only() -> None:
    encoder = joint("token")
    batch, graph = example()
    moved = batch.replace(backbone=batch.backbone * 1.5)
    other = example_graph(moved)
    width = 16
    assert not torch.equal(encoder(batch, graph).residue[:, :width], encoder(moved, other).residue[:, :width])
    for parameter in encoder.get_submodule("fuser").up.parameters():
        parameter.zero_()
    assert torch.equal(encoder(batch, graph).residue[:, :width], encoder(moved, other).residue[:, :width])


@torch.no_grad()
def test_the_last_map_up_changes_the_sequence_half_alone() -> None:
    encoder = joint("token")
    batch, graph = example()
    before = encoder(batch, graph).residue
    encoder.get_submodule("fuser").up[-1].weight.mul_(2)
    after = encoder(batch, graph).residue
    assert torch.equal(before[:, 16:], after[:, 16:])
    assert not torch.equal(before[:, :16], after[:, :16])


def test_the_fusion_learns_beside_a_frozen_sequence_encoder() -> None:
    encoder = joint("token").freeze_sequence().train()
    batch, graph = example()
    encoder(batch, graph).residue.square().sum().backward()
    fuser = dict(encoder.get_submodule("fuser").named_parameters())
    assert all(bool((parameter.grad != 0).any()) for parameter in fuser.values())
    assert all(parameter.grad is None for parameter in encoder.get_submodule("sequence").parameters())
    reference = joint("token", fuse={"name": "token", "reference": True})
    assert not any(parameter.requires_grad for parameter in reference.get_submodule("fuser").parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq": {"layers": [1, -1]}}, "token fusion reads one layer"),
        ({"struct": {"num_layers": 5}}, "the token visits 5 layers"),
        ({"seq": {"name": "onehot"}}, "runs the layers of a sequence encoder, and 'onehot' does not"),
        ({"struct": {"name": "gvp"}}, "runs the layers of a structure encoder, and 'gvp' does not"),
        ({"length": {"policy": "window"}}, "needs whole sequences, and length.policy is window"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    changes: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        joint("token", **changes)


def test_a_relation_that_the_graph_lacks_is_refused() -> None:
    batch, graph = example()
    with pytest.raises(SettingsError, match="the graph has relations 0 to 6, and the token asks for 7"):
        joint("token", fuse={"name": "token", "token_relation": 7})(batch, graph)


@pytest.mark.parametrize("fuse", ["token", "inject"])
def test_a_run_is_resumed_bit_for_bit_and_embeds(fuse: str, tmp_path: Path) -> None:
    registry = discover()

    def config(steps: int) -> RunConfig:
        train = {"max_steps": steps, "proteins_per_batch": 4, "device": "cpu"}
        extra = {"pretext": {"name": "residue_type"}, "data": {"name": "sample", "num_proteins": 12}}
        return configure(registry, [tables(fuse), extra, {"train": train}])

    start_run(registry, config(2), out=tmp_path / "two")
    start_run(registry, config(1), out=tmp_path / "one")
    resume_run(registry, tmp_path / "one", changes={"train": {"max_steps": 2}})
    runs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("two", "one")]
    first, second = ([json.loads(line)["loss"] for line in lines] for lines in runs)
    assert first == second
    [embedding] = load(tmp_path / "one").embed_batch([example_proteins()[0]])
    assert embedding.residue.shape == (40, 40)


def test_draws_of_a_task_are_those_of_other_fusers() -> None:
    """The token is not a residue: views and targets of a task ignore it."""
    registry, batch = discover(), example()[0]
    views = []
    for fuse in ("serial", "token"):
        step = resolve(registry, configure(registry, [tables(fuse)])).step(None)
        [view] = step.task.views(batch, step.build_graph, SeededDraws(0, 1, range(len(batch))))[:1]
        views.append(view.batch.residue_type)
    assert torch.equal(*views)


# Inject


@pytest.mark.parametrize(
    ("width", "blocks", "expected"), [(320, 6, 5_544_972), (480, 12, 24_929_304), (1280, 33, 486_942_786)]
)
def test_the_published_sizes(width: int, blocks: int, expected: int) -> None:
    with torch.device("meta"):
        fuser = InjectFuser(
            InjectFuser.Settings(),
            sequence_dim=width,
            structure_dim=width,
            layers={Kind.SEQ: LayerSizes(blocks, width)},
        )
    assert sum(parameter.numel() for parameter in fuser.extractors.parameters()) == expected


def projections(module: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for name, parameter in module.named_parameters()
        if name.rsplit(".", 2)[-2] in ("query", "key", "value")
    ]


@torch.no_grad()
def test_without_its_projections_it_is_serial_fusion() -> None:
    injected, serial = joint("inject"), joint("serial")
    state = injected.state_dict()
    serial.load_state_dict({name: value for name, value in state.items() if not name.startswith("fuser.")})
    batch, graph = example()
    assert not torch.equal(injected(batch, graph).residue, serial(batch, graph).residue)
    for parameter in projections(injected.get_submodule("fuser")):
        parameter.zero_()
    assert torch.equal(injected(batch, graph).residue, serial(batch, graph).residue)


@torch.no_grad()
def test_one_protein_follows_the_formulas_of_injection() -> None:
    encoder = pst()
    batch = ProteinBatch.from_proteins([example_proteins()[4]])
    graph = example_graph(batch)
    residue = injected_by_formula(encoder.get_submodule("sequence"), encoder.get_submodule("fuser"), graph)
    encoding = encoder.double()(batch, graph)
    torch.testing.assert_close(encoding.residue, residue, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(encoding.protein[0], residue.mean(0), rtol=1e-6, atol=1e-6)


def pst() -> JointEncoder:
    """The protein structure transformer: the sequence encoder with injections, and no other encoder."""
    return joint("inject", fuse={"output": "structure"}, struct={"name": "identity"})


def injected_by_formula(sequence: nn.Module, fuser: nn.Module, graph: ResidueGraph) -> Tensor:
    sequence.double(), fuser.double()
    protein = example_proteins()[4]
    tokens = torch.tensor([ALPHABET.index(name) for name in ["<cls>", *protein.sequence, "<eos>"]])
    hidden = sequence.model.embed_tokens.weight[tokens] * 0.88
    adjacency = torch.zeros(len(hidden), len(hidden), dtype=torch.float64)
    adjacency[graph.edge_index[1] + 1, graph.edge_index[0] + 1] = 1
    adjacency.fill_diagonal_(0)
    for layer, extractor in zip(sequence.model.layers, fuser.extractors, strict=True):
        rows = layer.self_attn_layer_norm(hidden)
        state, total = rows, torch.zeros_like(rows)
        for hop, mlp in enumerate(extractor.mlps):
            summed = (1 + extractor.eps[hop]) * state + adjacency @ state
            update = normalized(extractor.norms[hop], mlp(summed))
            total = total + extractor.outputs[hop](update)
            state = functional.relu(update)
        projections = (extractor.query, extractor.key, extractor.value)
        hidden = block(layer, hidden, tuple(projection(total) for projection in projections))
    after = sequence.model.emb_layer_norm_after
    return functional.layer_norm(hidden[1:-1], hidden.shape[1:], after.weight, after.bias)


@torch.no_grad()
def test_edges_count_once_whatever_their_relations() -> None:
    encoder, (batch, graph) = pst(), example()
    doubled = ResidueGraph.from_edges(
        torch.cat([graph.edge_index, graph.edge_index.flip(1)], dim=1),
        torch.cat([graph.relation, (graph.relation.flip(0) + 1) % graph.num_relations]),
        graph.num_relations,
    )
    torch.testing.assert_close(
        encoder(batch, doubled).residue, encoder(batch, graph).residue, rtol=1e-6, atol=1e-6
    )


@torch.no_grad()
def test_relations_can_be_chosen() -> None:
    batch, graph = example()
    chosen = graph.keep_edges(graph.relation == 5)
    encoder = joint("inject", fuse={"relations": [5]})
    encoder.structure = joint("serial").structure
    one, other = (
        encoder.fuser(batch, edges, encoder.sequence, lambda *_: encoder.sequence(batch))
        for edges in (graph, chosen)
    )
    assert torch.equal(one.residue, other.residue)
    with pytest.raises(SettingsError, match=r"the graph has relations 0 to 6, and fuse.relations asks for 7"):
        joint("inject", fuse={"relations": [7]})(batch, graph)


def test_only_the_projections_learn_at_first() -> None:
    encoder, (batch, graph) = joint("inject").freeze_sequence().train(), example()
    fuser = encoder.get_submodule("fuser")
    with torch.no_grad():
        for parameter in projections(fuser):
            parameter.zero_()
    encoder(batch, graph).residue.square().sum().backward()
    learned = [parameter for parameter in fuser.parameters() if bool((parameter.grad != 0).any())]
    assert {*map(id, learned)} == {*map(id, projections(fuser))}


def test_recomputed_blocks_count_a_batch_once() -> None:
    batch, graph = example()
    found = []
    for recompute in (False, True):
        encoder = joint("inject", seq={"gradient_checkpointing": recompute}).train()
        encoder(batch, graph).residue.square().sum().backward()
        norms = [m for m in encoder.get_submodule("fuser").modules() if isinstance(m, nn.BatchNorm1d)]
        gradient = next(encoder.get_submodule("fuser").extractors.parameters()).grad
        found.append(
            (
                [norm.running_mean for norm in norms],
                [int(norm.num_batches_tracked) for norm in norms],
                gradient,
            )
        )
    (means, counts, gradient), (other_means, other_counts, other_gradient) = found
    assert counts == other_counts == [1] * 8
    assert all(map(torch.equal, means, other_means))
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-5, atol=1e-6)
