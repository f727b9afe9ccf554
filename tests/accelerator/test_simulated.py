"""The simulated device refuses what a GPU refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esmgn_core.testing.simulated import CUDA, DeviceMismatchError, moved_to_cuda, simulated_cuda


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    linear, rows = nn.Linear(4, 2), torch.randn(3, 4)
    linear(rows).square().sum().backward()
    expected, linear.weight.grad = linear.weight.grad, None
    with simulated_cuda():
        moved_to_cuda(linear)(rows.to(CUDA)).square().sum().backward()
        assert linear.weight.grad is not None
        found = linear.weight.grad.cpu()
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, expected)


def test_made_tensors_are_where_they_were_asked_for() -> None:
    with simulated_cuda():
        assert torch.arange(3, device=CUDA).device == CUDA
        assert torch.as_tensor([1, 2], device="cuda:0").tolist() == [1, 2]
        assert torch.zeros(2, device=CUDA).new_ones(1).device == CUDA
        assert torch.zeros(2).device.type == "cpu"
        assert torch.zeros(2, device=CUDA).to("cpu").device.type == "cpu"


@pytest.mark.parametrize(
    "mix",
    [
        lambda own, other: own + other,
        lambda own, other: torch.cat([own, other]),
        lambda own, other: own.index_select(0, other.long()),
        lambda own, other: own.masked_fill_(other > 0, 1.0),
        lambda own, other: torch.where(own > 0, own, other),
    ],
)
def test_both_devices_in_one_operation_fail(mix) -> None:
    with simulated_cuda(), pytest.raises(DeviceMismatchError, match=r"and .* on the CPU"):
        mix(torch.ones(2, device=CUDA), torch.ones(2))


def test_what_cuda_allows() -> None:
    """Numbers of the CPU, indices of the CPU in brackets, copies between devices."""
    with simulated_cuda():
        own = torch.ones(3, device=CUDA)
        assert (own * torch.tensor(2.0)).tolist() == [2, 2, 2]
        assert own[torch.tensor([0, 2])].shape == (2,)
        own[torch.tensor([1])] = 5.0
        own[:1].copy_(torch.zeros(1))
        assert own.tolist() == [0, 5, 1]
        with pytest.raises((TypeError, RuntimeError)):
            own.numpy()
