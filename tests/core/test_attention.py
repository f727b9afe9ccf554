"""Attention within each sequence of a pack."""

from __future__ import annotations

import inspect
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from esmgn_core import attention
from esmgn_core.attention import Group, attend, attention_weights, pack_of, takes_varlen, varlen_attention

LENGTHS = torch.tensor([1, 0, 4, 4, 7, 2])


def rows(seed: int = 0, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    query, key, value = torch.randn(3, int(LENGTHS.sum()), 3, 8, **options)
    return query, key, value


def plain(query: Tensor, key: Tensor, value: Tensor, ptr: list[int]) -> Tensor:
    """The formula, sequence by sequence."""
    parts = []
    for first, end in pairwise(ptr):
        q, k, v = (tensor[first:end].transpose(0, 1) for tensor in (query, key, value))
        parts.append(((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


def test_a_pack_counts_neighbours_of_equal_length_and_leaves_empty_sequences_out() -> None:
    pack = pack_of(LENGTHS)
    assert pack.groups == (Group(1, 1), Group(2, 4), Group(1, 7), Group(1, 2))
    assert pack.ptr.tolist() == [0, 1, 5, 9, 16, 18]
    assert pack.ptr.dtype == torch.int32
    assert pack.longest == 7
    assert pack_of(LENGTHS[:0]).longest == 0


def test_each_sequence_attends_to_itself_by_the_formula() -> None:
    query, key, value = rows(dtype=torch.float64)
    pack = pack_of(LENGTHS)
    found = attend(query, key, value, pack)
    assert torch.allclose(found, plain(query, key, value, pack.ptr.tolist()), atol=1e-12)


def test_weights_are_those_that_mix_the_values() -> None:
    query, key, value = rows(dtype=torch.float64)
    pack = pack_of(LENGTHS)
    groups = attention_weights(query, key, pack)
    mixed = []
    for group, weights, part in zip(
        pack.groups, groups, value.split([count * length for count, length in pack.groups]), strict=True
    ):
        assert torch.allclose(weights.sum(-1), weights.new_ones(()))
        mixed.append((weights @ part.unflatten(0, group).transpose(1, 2)).transpose(1, 2).flatten(0, 1))
    assert torch.allclose(torch.cat(mixed), attend(query, key, value, pack), atol=1e-12)


def test_on_cuda_one_kernel_gets_the_whole_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain substitute, called like the kernel, gives the same result as the groups."""
    calls = []

    def substitute(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        ptr: Tensor,
        key_ptr: Tensor,
        longest: int,
        key_longest: int,
    ) -> Tensor:
        assert ptr is key_ptr
        assert ptr.dtype == torch.int32
        assert longest == key_longest == int(ptr.diff().max())
        calls.append(longest)
        return plain(query, key, value, ptr.tolist())

    query, key, value = rows()
    pack = pack_of(LENGTHS)
    expected = attend(query, key, value, pack)
    monkeypatch.setattr(attention, "takes_varlen", lambda *_: True)
    monkeypatch.setattr(attention, "varlen_attention", lambda: substitute)
    assert torch.allclose(attend(query, key, value, pack), expected, atol=1e-6)
    assert calls == [7]
    monkeypatch.setattr(attention, "varlen_attention", lambda: None)  # a PyTorch without it
    assert torch.equal(attend(query, key, value, pack), expected)


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"dtype": torch.float32}, False),
        ({"device": torch.device("cpu")}, False),
        ({"shape": (18, 3, 12)}, False),
        ({"dropout": 0.1}, False),
        ({"capability": (7, 5)}, False),
    ],
)
def test_the_kernel_is_chosen_by_device_type_and_width(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], taken: bool
) -> None:
    values = {"dtype": torch.bfloat16, "device": torch.device("cuda"), "shape": (18, 3, 8), **changes}
    capability = values.pop("capability", (8, 0))
    dropout = values.pop("dropout", 0.0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    query: Any = SimpleNamespace(**values)
    assert takes_varlen(query, dropout) is taken


def test_the_kernel_of_this_pytorch_has_the_expected_signature() -> None:
    kernel = varlen_attention()
    if kernel is None:
        pytest.skip("this PyTorch has no torch.nn.attention.varlen")
    names = list(inspect.signature(kernel).parameters)[:7]
    assert names == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_agrees_with_the_groups_on_a_gpu() -> None:
    query, key, value = (tensor.cuda().bfloat16().requires_grad_() for tensor in rows())
    pack = pack_of(LENGTHS.cuda())
    assert takes_varlen(query, 0.0)
    found = attend(query, key, value, pack)
    expected = plain(query.float(), key.float(), value.float(), pack.ptr.tolist())
    assert (found.float() - expected).norm() < 0.02 * expected.norm()
    found.sum().backward()
    assert query.grad is not None


def test_dropout_in_parts_is_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a dropout that never strikes, outputs and gradients are those of whole sequences."""
    found = []
    for dropout, limit in ((0.0, 2**24), (1e-12, 30)):
        monkeypatch.setattr(attention, "_MAX_WEIGHTS", limit)
        query, key, value = (tensor.requires_grad_() for tensor in rows(dtype=torch.float64))
        mixed = attend(query, key, value, pack_of(LENGTHS), dropout=dropout)
        (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
        found.append([mixed, query.grad, key.grad, value.grad])
    torch.testing.assert_close(*found)


def test_dropout_in_parts_drops_the_same_weights_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made again for the backward pass, the weights are those that mixed the values."""
    monkeypatch.setattr(attention, "_MAX_WEIGHTS", 30)
    query, key, value = rows()
    value.requires_grad_()
    mixed = attend(query, key, value, pack_of(LENGTHS), dropout=0.5)
    mixed.sum().backward()
    # Values enter linearly: their gradient, times themselves, adds up to the output.
    assert value.grad is not None
    torch.testing.assert_close((value.grad * value).sum(), mixed.sum())
    assert not torch.equal(mixed, attend(query, key, value, pack_of(LENGTHS)))
