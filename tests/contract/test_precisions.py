"""Every encoder trains in every precision, also where it is as wide as what it reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esmgn_core.engine.schedule import MicroBatch
from esmgn_core.host.configure import configure
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import TrainStep
from esmgn_core.spec import Kind
from esmgn_core.testing import example_batch
from esmgn_gearnet.normalize import normalized

from .test_components import IN_PLUGIN, REGISTRY, SMALL, fits, without_unread

PRECISIONS = (None, torch.bfloat16, torch.float16)


def names(kind: Kind) -> list[str]:
    return [spec.name for spec, _ in REGISTRY.components(kind) if (kind, spec.name) not in IN_PLUGIN]


def widths(struct: str) -> list[dict[str, int]]:
    """Settings that make an encoder as wide as its input of 32, and another width."""
    settings = SMALL.get((Kind.STRUCT, struct), {})
    if not settings:
        return [{}]
    key = "hidden_dim" if "hidden_dim" in settings else "scalar_dim" if "scalar_dim" in settings else ""
    return [{key: 32}, {key: 16}] if key else [{"hidden_dims": [32, 16]}, {}]  # type: ignore[dict-item]  # settings of one plugin each


def train_step(seq: str, struct: str, fuse: str, **changes: object) -> None:
    """One forward and backward pass in each precision; loss and gradients are finite."""
    tables = {
        "seq": {"name": seq, **SMALL.get((Kind.SEQ, seq), {})},
        "struct": {"name": struct, **SMALL.get((Kind.STRUCT, struct), {}), **changes},
        "fuse": {"name": fuse, **SMALL.get((Kind.FUSE, fuse), {})},
        "pretext": {"name": "residue_type"},
    }
    composed = resolve(REGISTRY, configure(REGISTRY, [without_unread(tables)]))
    batch = example_batch()
    draws = MicroBatch(tuple(range(len(batch))), tuple(range(len(batch)))).draws(0, 0)
    for precision in PRECISIONS:
        encoder = composed.encoder()
        task = composed.task(encoder.output_dim)
        step = TrainStep(encoder, task, composed.graph(), precision=precision).train()
        loss = step(batch, draws).loss
        loss.backward()
        gradients = [tensor.grad for tensor in step.parameters() if tensor.grad is not None]
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.count_nonzero() for gradient in gradients)


@pytest.mark.parametrize("struct", names(Kind.STRUCT))
def test_a_structure_encoder_trains_in_every_precision(struct: str) -> None:
    for changes in widths(struct):
        train_step("esm2", struct, "serial", **changes)


@pytest.mark.parametrize(
    ("seq", "fuse"),
    [(seq, fuse) for seq in names(Kind.SEQ) for fuse in names(Kind.FUSE) if fits(seq, "gearnet", fuse)],
)
def test_a_sequence_encoder_trains_in_every_precision_under_every_fusion(seq: str, fuse: str) -> None:
    width = composed_width(seq)
    train_step(seq, "gearnet", fuse, hidden_dim=width)


def composed_width(seq: str) -> int:
    """Width of the representations of a sequence encoder."""
    tables = {
        "seq": {"name": seq, **SMALL.get((Kind.SEQ, seq), {})},
        "struct": {"name": "gearnet", **SMALL[Kind.STRUCT, "gearnet"]},
    }
    return int(resolve(REGISTRY, configure(REGISTRY, [tables])).encoder().sequence.output_dim)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_outer", [True, False])
@pytest.mark.parametrize("kept_dtype", [None, torch.float32, torch.bfloat16])
def test_mixed_types_have_the_gradients_that_torch_gives(
    dtype: torch.dtype, *, with_outer: bool, kept_dtype: torch.dtype | None
) -> None:
    """A half-precision update and a float32 short cut: the fused step against its plain formula."""
    torch.manual_seed(0)
    inner, outer = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
    update = torch.randn(40, 6).to(dtype).requires_grad_()
    shortcut = torch.randn(40, 6).requires_grad_()
    kept = None if kept_dtype is None else shortcut.detach().to(kept_dtype)
    weight = torch.randn(40, 6)
    result = normalized(update, inner, shortcut, outer if with_outer else None, kept)
    (result * weight).sum().backward()
    found = [update.grad, shortcut.grad, inner.weight.grad, inner.bias.grad]
    for tensor in (update, shortcut, inner.weight, inner.bias):
        tensor.grad = None
    hidden = torch.relu(nn.functional.batch_norm(update, None, None, inner.weight, inner.bias, training=True))
    hidden = hidden + shortcut
    if with_outer:
        hidden = nn.functional.batch_norm(hidden, None, None, outer.weight, outer.bias, training=True)
    (hidden * weight).sum().backward()
    expected = [update.grad, shortcut.grad, inner.weight.grad, inner.bias.grad]
    torch.testing.assert_close(result, hidden)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
