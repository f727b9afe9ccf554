"""Given the recorded draws, the pretext tasks give the original's targets, losses and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esmgn_core.batch import TaskOutput
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.model import JointEncoder
from esmgn_gearnet.graph import RelationalGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance
from esmgn_pretext.residue_type import ResidueType
from esmgn_pretext.walks import Walks

from .conftest import FROM_OURS, TO_OURS, Recorded, batch_of, relative_error
from .test_fusion import build_encoder

_GRAPH = RelationalGraph(RelationalGraph.Settings())


def encoder_of(recorded: Recorded) -> JointEncoder:
    """The recorded encoder in train mode, its sequence encoder frozen."""
    encoder = build_encoder(
        recorded, recorded.facts("pretext/model"), recorded.tensors("pretext/model.state")
    )
    return encoder.freeze_sequence().train()


def check_loss_and_gradients(
    recorded: Recorded, name: str, encoder: JointEncoder, head: nn.Module, output: TaskOutput
) -> None:
    arrays, facts = recorded.arrays(f"pretext/{name}"), recorded.facts(f"pretext/{name}")
    assert relative_error(output.loss, arrays["loss"]) < 1e-5
    output.loss.backward()
    norms = {key: values[0] for key, values in facts["gradients_norm_sum_maxabs"].items()}
    ours = {
        **{f"model.structure_model.{key}": p for key, p in encoder.structure.named_parameters()},  # type: ignore[attr-defined]
        **{f"mlp.{key}": p for key, p in head.named_parameters()},
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
    candidates = Walks(graph, len(walked)).ptr(batch.ptr).diff()  # type: ignore[arg-type]
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
