"""Given the recorded draws, the pretext tasks give the original's targets, losses and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esmgn_core.alphabet import UNKNOWN
from esmgn_core.batch import TaskOutput
from esmgn_core.crop import window_mask
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.model.joint import JointEncoder
from esmgn_gearnet.graph import RelationalGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.diffusion import Noise
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance
from esmgn_pretext.multiview_contrast import MultiviewContrast, without
from esmgn_pretext.residue_type import ResidueType
from esmgn_pretext.siamdiff import SiamDiff
from esmgn_pretext.walks import Walks

from .conftest import FROM_OURS, TO_OURS, Recorded, batch_of, edge_set, relative_error
from .test_fusion import build_encoder

_GRAPH = RelationalGraph(RelationalGraph.Settings())


def encoder_of(recorded: Recorded) -> JointEncoder:
    """The recorded encoder in train mode, its sequence encoder frozen."""
    encoder = build_encoder(
        recorded, recorded.facts("pretext/model"), recorded.tensors("pretext/model.state")
    )
    return encoder.freeze_sequence().train()


def check_loss_and_gradients(
    recorded: Recorded,
    name: str,
    encoder: JointEncoder,
    head: nn.Module,
    output: TaskOutput,
    prefix: str = "mlp.",
    encoder_prefix: str = "model.structure_model.",
) -> None:
    arrays, facts = recorded.arrays(f"pretext/{name}"), recorded.facts(f"pretext/{name}")
    assert relative_error(output.loss, arrays["loss"]) < 1e-5
    output.loss.backward()
    norms = {key: values[0] for key, values in facts["gradients_norm_sum_maxabs"].items()}
    ours = {
        **{f"{encoder_prefix}{key}": p for key, p in encoder.structure.named_parameters()},  # type: ignore[attr-defined]  # a member of the class that the test builds
        **{f"{prefix}{key}": p for key, p in head.named_parameters()},
    }
    assert ours.keys() == norms.keys()
    largest = max(norms.values())
    for key, parameter in ours.items():
        assert parameter.grad is not None, key
        assert abs(float(parameter.grad.norm()) - norms[key]) < 1e-5 * largest, key
    assert all(p.grad is None for p in encoder.get_submodule("sequence").parameters())


def test_residue_type(recorded: Recorded) -> None:
    arrays = recorded.arrays("pretext/residue_type")
    encoder, batch = encoder_of(recorded), batch_of(arrays)
    task = ResidueType(ResidueType.Settings(reference=True), encoder_dim=encoder.output_dim)
    weights = recorded.tensors("pretext/residue_type.head")
    state = {name.removeprefix("mlp."): tensor for name, tensor in weights.items() if name.startswith("mlp.")}
    last = f"layers.{len(task.head.layers) - 1}"
    task.head.load_state_dict(
        {name: tensor[FROM_OURS] if name.startswith(last) else tensor for name, tensor in state.items()}
    )
    view = task.masked_view(batch, _GRAPH, torch.from_numpy(arrays["node_index"].astype(np.int64)))
    masked = torch.from_numpy(arrays["masked_residue_type"] == 32)
    assert torch.equal(view.batch.residue_type == 21, masked)
    encoding = encoder(view.batch, view.graph)
    scores = task.head(encoding.residue[view.targets["residue"]])
    assert relative_error(scores[:, TO_OURS], arrays["pred"]) < 1e-5
    output = task.loss([view], [encoding])
    assert output.num_samples == len(arrays["target"])
    assert float(output.metrics["accuracy"]) == recorded.facts("pretext/residue_type")["metric"]["accuracy"]
    check_loss_and_gradients(recorded, "residue_type", encoder, task.head, output)


class RenamedHead(nn.Module):
    """The tuple head under the original's names of its layers."""

    def __init__(self, task: Distance | Angle | Dihedral) -> None:
        super().__init__()
        self.layers = nn.ModuleList([task.head.first, *task.head.layers])


def test_distance(recorded: Recorded) -> None:
    arrays = recorded.arrays("pretext/distance")
    encoder, batch = encoder_of(recorded), batch_of(arrays)
    task = Distance(Distance.Settings(), encoder_dim=encoder.output_dim)
    head = RenamedHead(task)
    weights = recorded.tensors("pretext/distance.head")
    head.load_state_dict({n.removeprefix("mlp."): t for n, t in weights.items() if n.startswith("mlp.")})
    graph = _GRAPH(batch)
    drawn = our_rows(graph, arrays["edge_list"][arrays["edge_index"]])
    view = task.view_without(batch, graph, drawn)
    assert torch.equal(
        view.targets["pair"].int(), torch.from_numpy(np.stack([arrays["node_i"], arrays["node_j"]]))
    )
    assert relative_error(view.targets["distance"], arrays["target"]) < 1e-6
    kept = {tuple(edge) for edge in arrays["edge_list"][arrays["edge_keep_mask"]].tolist()}
    assert edges(view) == kept
    encoding = encoder(view.batch, view.graph)
    predicted = task.head(encoding.residue, view.targets["pair"]).squeeze(1)
    assert relative_error(predicted, arrays["pred"]) < 1e-5
    check_loss_and_gradients(recorded, "distance", encoder, head, task.loss([view], [encoding]))


def siamdiff(recorded: Recorded, encoder: JointEncoder) -> tuple[SiamDiff, nn.Module]:
    """The task with the recorded heads, and these under their original names."""
    task = SiamDiff(SiamDiff.Settings(reference=True), encoder_dim=encoder.output_dim)
    denoiser = task.denoiser
    heads = nn.ModuleDict(
        {
            "struct_mlp": denoiser.pair_score.struct,
            "dist_mlp": denoiser.pair_score.distance,
            "seq_mlp": denoiser.residue_type,
        }
    )
    state = {name: t for name, t in recorded.tensors("pretext/siamdiff.head").items() if "_mlp." in name}
    for kind in ("weight", "bias"):
        state[f"seq_mlp.layers.2.{kind}"] = state[f"seq_mlp.layers.2.{kind}"][FROM_OURS]
    heads.load_state_dict(state)
    return task, heads


def test_siamdiff(recorded: Recorded) -> None:
    arrays = recorded.arrays("pretext/siamdiff")
    encoder, batch = encoder_of(recorded), batch_of(arrays)
    task, heads = siamdiff(recorded, encoder)
    sigma = torch.from_numpy(((1 - arrays["alphas"]) / arrays["alphas"]) ** 0.5)
    assert relative_error(task.settings.sigma(), sigma) < 1e-6
    level = as_rows(arrays, "noise_level")[0]
    noise = Noise(level, as_rows(arrays, "node_index")[0])
    assert int(task.settings.num_masked(level, batch.lengths).sum()) == len(noise.residue)
    jitter = 0.3 * torch.from_numpy(arrays["second_view_noise"]).unsqueeze(1).expand(-1, 4, -1)
    moves = [torch.from_numpy(arrays[f"view{number}_position_noise"]) for number in (1, 2)]
    views = task.noised(batch, _GRAPH, jitter, noise, moves)
    for number, view in enumerate(views, start=1):
        assert edges(view) == {tuple(edge) for edge in arrays[f"view{number}_edge_list"].tolist()}
        assert view.graph.num_edges > 2 * view.targets["pair"].shape[1]
        assert relative_error(view.batch.ca, arrays[f"view{number}_noised_position"]) < 1e-6
        masked = as_rows(arrays, f"view{number}_masked_residue_type")[0]
        unknown = view.batch.residue_type == UNKNOWN
        assert torch.equal(view.batch.residue_type[~unknown], TO_OURS[masked][~unknown])
        assert (
            relative_error(vectors(view, view.targets["score"]), arrays[f"view{number}_node_score_target"])
            < 1e-5
        )
    encodings = [encoder(view.batch, view.graph) for view in views]
    for number, (view, other) in enumerate(zip(views, reversed(encodings), strict=True), start=1):
        score = task.denoiser.pair_score(other.residue, view.targets["pair"], view.targets["distance"])
        assert relative_error(vectors(view, score), arrays[f"view{number}_node_score_pred"]) < 1e-5
        types = task.denoiser.residue_type(other.residue[noise.residue])[:, TO_OURS]
        assert relative_error(types, arrays[f"view{number}_seq_pred"]) < 1e-5
    output = task.loss(views, encodings)
    metric = recorded.facts("pretext/siamdiff")["metric"]
    assert float(output.metrics["structure_loss"]) == pytest.approx(
        metric["structure denoising loss"], rel=1e-5
    )
    assert float(output.metrics["sequence_loss"]) == pytest.approx(
        metric["sequence denoising loss"], rel=1e-5
    )
    check_loss_and_gradients(recorded, "siamdiff", encoder, heads, output, prefix="")


def test_multiview_contrast(recorded: Recorded) -> None:
    arrays, facts = (
        recorded.arrays("pretext/multiview_contrast"),
        recorded.facts("pretext/multiview_contrast"),
    )
    encoder, batch = encoder_of(recorded), batch_of(arrays)
    task = MultiviewContrast(MultiviewContrast.Settings(), encoder_dim=encoder.output_dim)
    weights = recorded.tensors("pretext/multiview_contrast.head")
    projection = {
        name.removeprefix("model.mlp."): t for name, t in weights.items() if name.startswith("model.mlp.")
    }
    task.projection.load_state_dict(projection)
    views, encodings = [], []
    for number in (1, 2):
        starts = as_rows(arrays, f"view{number}_crop_start")[0]
        keep = window_mask(batch, starts, facts["crop_max_length"])
        part, inside = batch.select(keep), _GRAPH.edges_into(batch, keep).select(keep)
        theirs = arrays[f"view{number}_cropped_edge_list"]
        assert edge_set(inside) == {tuple(edge) for edge in theirs.tolist()}
        if (removed := arrays.get(f"view{number}_removed_edge_index")) is not None:
            inside = without(inside, our_rows(inside, theirs[removed]))
        view = View(part, inside)
        assert edges(view) == {tuple(edge) for edge in arrays[f"view{number}_final_edge_list"].tolist()}
        encoding = encoder(view.batch, view.graph)
        assert relative_error(encoding.protein, arrays[f"view{number}_graph_feature"]) < 1e-5
        assert relative_error(task.projection(encoding.protein), arrays[f"view{number}_projection"]) < 1e-5
        views.append(view)
        encodings.append(encoding)
    output = task.loss(views, encodings)
    score = torch.from_numpy(arrays["score"])
    nearest = float((score.argmax(dim=1) == torch.arange(len(score))).float().mean())
    assert float(output.metrics["retrieval"]) == pytest.approx(nearest)
    check_loss_and_gradients(
        recorded,
        "multiview_contrast",
        encoder,
        task.projection,
        output,
        prefix="model.mlp.",
        encoder_prefix="model.model.structure_model.",
    )


def vectors(view: View, score: Tensor) -> Tensor:
    """Vectors of the residues, edge by edge as the original adds them up, from scores of pairs."""
    source, target = view.graph.edge_index
    number = {tuple(pair): row for row, pair in enumerate(view.targets["pair"].T.tolist())}
    of_edge = [number.get((min(edge), max(edge)), -1) for edge in view.graph.edge_index.T.tolist()]
    scores = torch.cat([score, score.new_zeros(1)])[of_edge]
    apart = view.batch.ca[source] - view.batch.ca[target]
    pull = scores.unsqueeze(1) * apart / (apart.norm(dim=1, keepdim=True) + 1e-10)
    zeros = pull.new_zeros(view.batch.num_residues, 3)
    num_out, num_in = (ends.bincount(minlength=len(zeros)).clamp(min=1) for ends in (source, target))
    out, into = zeros.index_add(0, source, pull), zeros.index_add(0, target, pull)
    return out / num_out.unsqueeze(1) - into / num_in.unsqueeze(1)


@pytest.mark.parametrize(
    ("task_class", "name", "walked", "asked"),
    [
        (Angle, "angle", ("edge_in", "edge_out"), ("node_i", "node_j", "node_k")),
        (
            Dihedral,
            "dihedral",
            ("edge_k_t", "edge_t_j", "edge_j_i"),
            ("node_i", "node_j", "node_k", "node_t"),
        ),
    ],
)
def test_angle_and_dihedral(
    recorded: Recorded,
    task_class: type[Angle] | type[Dihedral],
    name: str,
    walked: tuple[str, ...],
    asked: tuple[str, ...],
) -> None:
    arrays = recorded.arrays(f"pretext/{name}")
    encoder, batch = encoder_of(recorded), batch_of(arrays)
    task = task_class(task_class.Settings(), encoder_dim=encoder.output_dim)
    head = RenamedHead(task)
    weights = recorded.tensors(f"pretext/{name}.head")
    head.load_state_dict({n.removeprefix("mlp."): t for n, t in weights.items() if n.startswith("mlp.")})
    graph = _GRAPH(batch)
    candidates = Walks(graph, len(walked)).ptr(batch.ptr).diff()
    assert candidates.tolist() == arrays[f"num_{name}_candidates"].tolist()
    drawn = torch.stack([our_rows(graph, arrays["edge_list"][arrays[edge]]) for edge in walked])
    view = task.view_without(batch, graph, drawn)
    assert torch.equal(view.targets["residues"], as_rows(arrays, *asked))
    assert torch.equal(view.targets["angle_class"], as_rows(arrays, "target")[0])
    assert edges(view) == {tuple(edge) for edge in arrays["edge_list"][arrays["edge_keep_mask"]].tolist()}
    encoding = encoder(view.batch, view.graph)
    assert relative_error(task.head(encoding.residue, view.targets["residues"]), arrays["pred"]) < 1e-5
    output = task.loss([view], [encoding])
    accuracy = recorded.facts(f"pretext/{name}")["metric"]["accuracy"]
    assert float(output.metrics["accuracy"]) == pytest.approx(accuracy)
    check_loss_and_gradients(recorded, name, encoder, head, output)


def as_rows(arrays: dict[str, np.ndarray], *names: str) -> Tensor:
    """Recorded integers, int64 [names, ...]."""
    return torch.from_numpy(np.stack([arrays[name] for name in names]).astype(np.int64))


def our_rows(graph: ResidueGraph, recorded_edges: np.ndarray) -> Tensor:
    """Rows of our graph that hold the recorded edges (in, out, relation)."""
    triples = zip(*graph.edge_index.tolist(), graph.relation.tolist(), strict=True)
    row = {triple: number for number, triple in enumerate(triples)}
    return torch.tensor([row[tuple(edge)] for edge in recorded_edges.tolist()])


def edges(view: View) -> set[tuple[int, int, int]]:
    return set(zip(*view.graph.edge_index.tolist(), view.graph.relation.tolist(), strict=True))
