"""The heads give what their plain formulas give, for fewer operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from esmgn_pretext.heads import MLP, PairScore, TupleMLP

DIM = 24


def mlp(layers, inputs: Tensor) -> Tensor:
    for number, layer in enumerate(layers):
        inputs = layer(inputs.relu() if number else inputs)
    return inputs


def concatenated(head: TupleMLP, residues: Tensor, index: Tensor) -> Tensor:
    """The plain form: the whole head on concatenated residues."""
    return mlp([head.first, *head.layers], torch.cat([residues[member] for member in index], dim=1))


def edge_by_edge(head: PairScore, residues: Tensor, pair: Tensor, distance: Tensor) -> Tensor:
    """The plain form: the distance's head, then the other on the concatenation."""
    product = residues[pair[0]] * residues[pair[1]]
    of_distance = mlp(head.distance.layers, distance.unsqueeze(1))
    return mlp(head.struct.layers, torch.cat([product, of_distance], dim=1)).squeeze(1)


def check_equal(
    head: nn.Module, plain: Callable[[Tensor], Tensor], residues: Tensor, *inputs: Tensor
) -> None:
    """Values and all gradients in double precision."""
    head.double()
    residues = residues.double().requires_grad_()
    found = []
    for run in (lambda: head(residues, *inputs), lambda: plain(residues)):
        head.zero_grad()
        residues.grad = None
        output = run()
        (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum().backward()
        gradients = [residues.grad, *(parameter.grad for parameter in head.parameters())]
        found.append([output.detach(), *(gradient.clone() for gradient in gradients)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def flops(run: Callable[[], Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        run().sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("arity", [2, 3, 4])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_tuple_head_equals_the_head_on_concatenated_residues(arity, num_layers):
    head = TupleMLP(DIM, arity, DIM, 8, num_layers)
    residues, index = torch.randn(30, DIM), torch.randint(30, (arity, 70))
    check_equal(head, lambda x: concatenated(head, x, index), residues, index)


class LowRank(nn.Module):
    """A weight plus a product of two small ones."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, weight.shape[1]))
        self.up = nn.Parameter(torch.randn(weight.shape[0], 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def test_tuple_head_trains_low_rank_changes_of_its_first_layer():
    head = TupleMLP(DIM, 2, DIM, 8, 2)
    parametrize.register_parametrization(head.first, "weight", LowRank(head.first.weight))
    residues, index = torch.randn(30, DIM), torch.randint(30, (2, 70))
    check_equal(head, lambda x: concatenated(head, x, index), residues, index)


def test_tuple_head_runs_in_the_data_type_of_autocast():
    head, residues, index = TupleMLP(DIM, 3, DIM, 8, 2), torch.randn(30, DIM), torch.randint(30, (3, 70))
    with torch.autocast("cpu", torch.bfloat16):
        output = head(residues, index)
        plain = concatenated(head, residues, index)
    assert output.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(output, plain, rtol=0.05, atol=0.05)
    output.float().sum().backward()
    assert {parameter.grad.dtype for parameter in head.parameters()} == {torch.float32}


def test_tuple_head_keeps_one_gradient_of_its_first_weight():
    """Autograd alone would concatenate the gradients of the members."""
    head, residues, index = TupleMLP(DIM, 4, DIM, 8, 2), torch.randn(30, DIM), torch.randint(30, (4, 70))
    output = head(residues, index).sum()
    with profile() as found:
        output.backward()
    assert "aten::cat" not in {event.key for event in found.key_averages()}


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("num_pairs", [0, 1, DIM, DIM + 1, 90])
def test_pair_score_equals_both_heads_in_turn(num_layers, num_pairs):
    """With few pairs the layers stay apart, with many they are multiplied: the numbers are the same."""
    head = PairScore(DIM, num_layers)
    pair, distance = torch.randint(30, (2, num_pairs)), torch.rand(num_pairs, dtype=torch.float64) * 9
    check_equal(head, lambda x: edge_by_edge(head, x, pair, distance), torch.randn(30, DIM), pair, distance)


def test_pair_score_does_not_know_which_residue_comes_first():
    head, pair, distance = PairScore(DIM, 3), torch.randint(30, (2, 50)), torch.rand(50)
    residues = torch.randn(30, DIM)
    assert torch.equal(head(residues, pair, distance), head(residues, pair.flip(0), distance))


@pytest.mark.parametrize("arity", [3, 4])
def test_tuple_heads_of_the_study_take_a_fraction_of_the_operations(arity):
    """512 tuples in each crop of 100 residues, forward and backward: the measure of 3.5."""
    residues = torch.randn(200, 256, requires_grad=True)
    index = torch.randint(200, (arity, 1024))
    head = TupleMLP(256, arity, 256, 8, 2)
    plain = flops(lambda: concatenated(head, residues, index))
    assert plain / flops(lambda: head(residues, index)) > 3.5


def test_pair_score_saves_a_layer_on_many_pairs():
    head = PairScore(DIM, 3)
    pair, distance = torch.randint(60, (2, 1000)), torch.rand(1000)
    residues = torch.randn(60, DIM, requires_grad=True)
    plain = flops(lambda: edge_by_edge(head, residues, pair, distance))
    assert plain / flops(lambda: head(residues, pair, distance)) > 1.2


def test_mlp_has_relu_between_its_layers_only():
    head = MLP(5, 7, 3, 3)
    inputs = torch.randn(11, 5)
    expected = head.layers[2](head.layers[1](head.layers[0](inputs).relu()).relu())
    assert torch.equal(head(inputs), expected)
