"""GearNet-Edge gives the original's edge features, outputs, gradients and batch statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import MASKED
from esmgn_gearnet.edge_encoder import GearNetEdge
from esmgn_gearnet.edge_features import edge_features

from .conftest import FROM_OURS, Recorded, batch_of, graph_of, relative_error

NAME = "gearnet/gearnet_edge"
FIRST = "edge_layers.0."


def our_columns(width: int = 59) -> Tensor:
    """The original's column of the edge features for each of ours: one-hots are in another order."""
    order = torch.arange(width)
    order[:20], order[20:40] = FROM_OURS, FROM_OURS + 20
    return order


def reordered(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """With the input columns of the first edge layer, of every angle bin, in our order."""
    tensors = dict(tensors)
    for part in ("self_loop", "linear"):
        name = f"{prefix}{FIRST}{part}.weight"
        tensors[name] = tensors[name].unflatten(1, (-1, 59))[:, :, our_columns()].flatten(1)
    return tensors


def build(recorded: Recorded) -> GearNetEdge:
    config = recorded.facts(NAME)["config"]
    widths = config["hidden_dims"]
    settings = GearNetEdge.Settings(
        hidden_dim=widths[0],
        num_layers=len(widths),
        num_angle_bins=config["num_angle_bin"],
        readout=config["readout"],
        unknown_residue="G",
    )
    net = GearNetEdge(settings, input_dim=config["input_dim"], num_relations=config["num_relation"])
    net.load_state_dict(reordered(recorded.tensors(f"{NAME}.state")))
    return net


def test_edge_features(recorded: Recorded) -> None:
    arrays = recorded.arrays(NAME)
    batch, graph = batch_of(arrays), graph_of(arrays["edge_list"])
    ours = edge_features(batch, graph, unknown_residue="G")
    theirs = np.concatenate(
        [arrays["edge_feature_onehot"], arrays["edge_feature_distance"][:, None]], axis=1, dtype=np.float32
    )
    source, target, relation = arrays["edge_list"].astype(np.int64).T
    in_our_order = torch.from_numpy(theirs)[np.lexsort((source, relation, target))][:, our_columns()]
    torch.testing.assert_close(ours, in_our_order, rtol=1e-6, atol=1e-6)


def test_residues_without_a_type_have_a_one_hot_of_zeros(recorded: Recorded) -> None:
    arrays = recorded.arrays(NAME)
    batch, graph = batch_of(arrays), graph_of(arrays["edge_list"])
    batch.residue_type[3] = MASKED
    features = edge_features(batch, graph)
    for column, ends in ((0, graph.edge_index[0]), (20, graph.edge_index[1])):
        expected = (batch.residue_type[ends] < 20).float()
        assert torch.equal(features[:, column : column + 20].sum(dim=1), expected)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients(recorded: Recorded, mode: str, dtype: torch.dtype) -> None:
    net = build(recorded).train(mode == "train").to(dtype)
    arrays = recorded.arrays(NAME)
    features = torch.from_numpy(arrays["input"]).to(dtype).requires_grad_()
    encoding = net(batch_of(arrays), graph_of(arrays["edge_list"]), features)
    assert relative_error(encoding.residue, arrays[f"{mode}_node_feature"]) < 1e-5
    assert relative_error(encoding.protein, arrays[f"{mode}_graph_feature"]) < 1e-5
    # In single precision one of millions of ReLUs may switch by rounding and move a gradient by 5e-3.
    tolerance = 1e-5 if dtype == torch.float64 else 1e-2

    weighted = (encoding.residue * torch.from_numpy(arrays["weight_node"])).sum()
    weighted += (encoding.protein * torch.from_numpy(arrays["weight_graph"])).sum()
    weighted.backward()
    assert features.grad is not None
    assert relative_error(features.grad, arrays[f"{mode}_grad_input"]) < tolerance
    gradients = reordered(reordered(recorded.tensors(f"{NAME}.grads"), "eval."), "train.")
    largest = max(g.abs().max() for name, g in gradients.items() if name.startswith(mode))
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float((parameter.grad - gradients[f"{mode}.{name}"]).abs().max() / largest) < tolerance, name


def test_batch_statistics_after_one_step(recorded: Recorded) -> None:
    net = build(recorded).train()
    arrays = recorded.arrays(NAME)
    net(batch_of(arrays), graph_of(arrays["edge_list"]), torch.from_numpy(arrays["input"]))
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(
            buffer, torch.from_numpy(arrays[f"after_train.{name}"]), rtol=1e-5, atol=1e-6
        )


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        net = GearNetEdge(GearNetEdge.Settings(), input_dim=21, num_relations=7)
    assert sum(parameter.numel() for parameter in net.parameters()) == 20_145_635
