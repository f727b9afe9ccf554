"""Batch normalisation, ReLU and short cut of a layer in one step that saves memory."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def normalized(
    update: Tensor,
    inner: nn.Module,
    shortcut: Tensor | None = None,
    outer: nn.Module | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    r"""Batch normalisation and ReLU, then an optional short cut and an optional second normalisation.

    .. math:: y = \mathrm{BN}_\mathrm{outer}\bigl(\mathrm{ReLU}(\mathrm{BN}_\mathrm{inner}(u)) + x\bigr)

    With plain ``BatchNorm1d`` the backward pass keeps only ``update`` and ``shortcut`` and recomputes the
    elementwise steps between them. Other modules are called normally.

    Args:
        update: float [N, d], u.
        inner: a batch normalisation of width d.
        shortcut: float [N, d], x; ``None`` for none.
        outer: a second batch normalisation; ``None`` for none.
        kept: a copy of ``shortcut`` that stays in memory, to keep for the backward pass instead.

    Returns:
        float [N, d].
    """
    if _is_plain(inner) and (outer is None or _is_plain(outer)):
        first, second = _Norm.of(inner, update), None if outer is None else _Norm.of(outer, update)
        scale, shift = (None, None) if outer is None else (outer.weight, outer.bias)
        result: Tensor = _Normalized.apply(  # type: ignore[no-untyped-call]  # the library does not annotate it
            first, second, update, shortcut, inner.weight, inner.bias, scale, shift, kept
        )
        return result
    hidden = functional.relu(inner(update))
    hidden = hidden if shortcut is None else hidden + shortcut
    return hidden if outer is None else outer(hidden)


def _is_plain(module: nn.Module) -> TypeGuard[nn.BatchNorm1d]:
    # A subclass may compute something else: SyncBatchNorm, for one, normalises over all processes.
    return (
        type(module) is nn.BatchNorm1d
        and module.affine
        and module.track_running_stats
        and module.momentum is not None
    )


class _Norm(NamedTuple):
    """Buffers and settings of a batch normalisation, without its trained parameters."""

    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float
    training: bool

    @classmethod
    def of(cls, module: nn.BatchNorm1d, features: Tensor) -> _Norm:
        mean, var, count = module.running_mean, module.running_var, module.num_batches_tracked
        assert mean is not None and var is not None and module.momentum is not None  # noqa: S101, PT018
        if module.training:
            if features.shape[0] < 2:
                raise ValueError(f"batch normalisation in training needs 2 residues, got {features.shape[0]}")
            if count is not None:
                count.add_(1)
        return cls(mean, var, module.momentum, module.eps, module.training)

    def forward(self, features: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised features, and the mean and 1 / standard deviation used."""
        result, mean, inverse = torch.native_batch_norm(
            features,
            scale,
            shift,
            self.running_mean,
            self.running_var,
            self.training,
            self.momentum,
            self.eps,
        )
        if not self.training:
            # Copies: training may move the running statistics before the backward pass.
            mean, inverse = self.running_mean.clone(), (self.running_var + self.eps).rsqrt()
        return result, mean, inverse

    def recompute(
        self, features: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor
    ) -> Tensor:
        """The features that :meth:`forward` returned, from its mean and 1 / standard deviation."""
        variance = self._variance(inverse)
        return torch.native_batch_norm(features, scale, shift, mean, variance, False, 0.0, self.eps)[0]

    def backward(
        self, gradient: Tensor, features: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of features, scale and shift."""
        statistics: tuple[Tensor | None, ...] = (None, None, mean, inverse)
        if not self.training:
            statistics = (mean, self._variance(inverse), None, None)
        result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            gradient, features, scale, *statistics, self.training, self.eps, [True, True, True]
        )
        return result

    def _variance(self, inverse: Tensor) -> Tensor:
        return inverse.pow(-2) - self.eps


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inner: _Norm,
        outer: _Norm | None,
        update: Tensor,
        shortcut: Tensor | None,
        inner_scale: Tensor,
        inner_shift: Tensor,
        outer_scale: Tensor | None,
        outer_shift: Tensor | None,
        kept: Tensor | None,
    ) -> Tensor:
        normal, *inner_statistics = inner.forward(update, inner_scale, inner_shift)
        hidden = _add(normal.relu_(), shortcut)
        outer_statistics: list[Tensor] = []
        if outer is not None and outer_scale is not None and outer_shift is not None:
            hidden, *outer_statistics = outer.forward(hidden, outer_scale, outer_shift)
        ctx.inner, ctx.outer = inner, outer
        if kept is None or shortcut is None or kept.dtype != shortcut.dtype:
            kept = shortcut
        ctx.save_for_backward(
            update, kept, inner_scale, inner_shift, outer_scale, *inner_statistics, *outer_statistics
        )
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        update, shortcut, scale, shift, outer_scale, mean, inverse, *outer_statistics = ctx.saved_tensors
        positive = ctx.inner.recompute(update, scale, shift, mean, inverse).relu_()
        for_outer_scale = for_outer_shift = None
        if ctx.outer is not None:
            hidden = positive if shortcut is None else positive + shortcut
            gradient, for_outer_scale, for_outer_shift = ctx.outer.backward(
                gradient.contiguous(), hidden, outer_scale, *outer_statistics
            )
        # Under autocast a float32 short cut makes the sum and its gradient float32: cast the gradient back.
        for_normal = torch.ops.aten.threshold_backward(gradient.to(positive.dtype), positive, 0)
        for_update, for_scale, for_shift = ctx.inner.backward(for_normal, update, scale, mean, inverse)
        for_shortcut = None if shortcut is None else gradient.to(shortcut.dtype)
        scales = (for_scale, for_shift, for_outer_scale, for_outer_shift)
        return None, None, for_update, for_shortcut, *scales, None


def _add(hidden: Tensor, shortcut: Tensor | None) -> Tensor:
    if shortcut is None:
        return hidden
    return hidden.add_(shortcut) if hidden.dtype == shortcut.dtype else hidden + shortcut
