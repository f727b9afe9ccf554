"""GearNet gives the original's outputs, gradients and batch statistics."""

from __future__ import annotations

import pytest
import torch

from esmgn_gearnet.encoder import GearNet

from .conftest import Recorded, batch_of, graph_of, relative_error


def build(recorded: Recorded) -> GearNet:
    config = recorded.facts("gearnet/gearnet")["config"]
    widths = config["hidden_dims"]
    settings = GearNet.Settings(hidden_dim=widths[0], num_layers=len(widths), readout=config["readout"])
    net = GearNet(settings, input_dim=config["input_dim"], num_relations=config["num_relation"])
    net.load_state_dict(recorded.tensors("gearnet/gearnet.state"))
    return net


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_and_gradients(recorded: Recorded, mode: str) -> None:
    net = build(recorded).train(mode == "train")
    arrays = recorded.arrays("gearnet/gearnet")
    features = torch.from_numpy(arrays["input"]).requires_grad_()
    encoding = net(batch_of(arrays), graph_of(arrays["edge_list"]), features)
    assert relative_error(encoding.residue, arrays[f"{mode}_node_feature"]) < 1e-5
    assert relative_error(encoding.protein, arrays[f"{mode}_graph_feature"]) < 1e-5

    weighted = (encoding.residue * torch.from_numpy(arrays["weight_node"])).sum()
    weighted += (encoding.protein * torch.from_numpy(arrays["weight_graph"])).sum()
    weighted.backward()
    assert features.grad is not None
    assert relative_error(features.grad, arrays[f"{mode}_grad_input"]) < 1e-5
    gradients = recorded.tensors("gearnet/gearnet.grads")
    # Biases before a batch norm have a gradient of zero but for rounding: compare with the largest.
    largest = max(g.abs().max() for name, g in gradients.items() if name.startswith(mode))
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float((parameter.grad - gradients[f"{mode}.{name}"]).abs().max() / largest) < 1e-5, name


def test_batch_statistics_after_one_step(recorded: Recorded) -> None:
    net = build(recorded).train()
    arrays = recorded.arrays("gearnet/gearnet")
    net(batch_of(arrays), graph_of(arrays["edge_list"]), torch.from_numpy(arrays["input"]))
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(
            buffer, torch.from_numpy(arrays[f"after_train.{name}"]), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("input_dim", "count"), [(1280, 15_747_072), (21, 10_590_208)])
def test_published_parameter_counts(input_dim: int, count: int) -> None:
    with torch.device("meta"):
        net = GearNet(GearNet.Settings(), input_dim=input_dim, num_relations=7)
    assert sum(parameter.numel() for parameter in net.parameters()) == count
