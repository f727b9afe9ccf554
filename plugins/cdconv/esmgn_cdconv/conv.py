"""The continuous-discrete convolution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from esmgn_cdconv.neighborhood import NUM_GEOMETRY_FEATURES, Neighborhood


class ContinuousDiscreteConv(nn.Module):
    r"""Convolution whose kernel is continuous in space and discrete along the sequence.

    For each edge j -> i, :class:`Neighborhood` gives the geometry :math:`\delta` (7 numbers), the smoothing s
    and the clamped sequence offset o. The kernel is

    .. math::
        k_{ji} = s_{ji} \cdot \mathrm{LeakyReLU}_{0.2}(A_o \delta_{ji} + a_o) \in \mathbb{R}^K

    and with K x w outer products the update is

    .. math::
        h_i = W \,\mathrm{vec}\Bigl(\sum_j k_{ji} \otimes x_j\Bigr), \quad W \in \mathbb{R}^{w \times Kw}

    Args:
        width: w, channels in and out.
        kernel_dim: K.
        num_offsets: odd; offsets from -m to m, m = (num_offsets - 1) / 2.

    Shapes: features [M, w] -> [M, w].

    Source: Fan et al. 2023 (ICLR, "Continuous-Discrete Convolution for Geometry-Sequence Modeling in
    Proteins"), section 3; smoothing as in the original code.
    """

    def __init__(self, width: int, *, kernel_dim: int, num_offsets: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(NUM_GEOMETRY_FEATURES)
        shape = (num_offsets, NUM_GEOMETRY_FEATURES, kernel_dim)
        self.kernel_weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.kernel_bias = nn.Parameter(torch.empty(num_offsets, kernel_dim).uniform_(-bound, bound))
        self.linear = nn.Linear(kernel_dim * width, width, bias=False)

    def forward(self, neighborhood: Neighborhood, features: Tensor) -> Tensor:
        """Convolve ``features`` over the neighborhood."""
        # bfloat16 is too coarse for distances of up to 20 angstrom. This part takes little time.
        with torch.autocast(features.device.type, enabled=False):
            kernel = self._kernel(neighborhood)
        dtype = features.dtype
        convolved: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]  # untyped in torch
            kernel.to(dtype), features, self.linear.weight.to(dtype), neighborhood
        )
        return convolved

    def _kernel(self, neighborhood: Neighborhood) -> Tensor:
        """float32 [E, K]."""
        geometry = neighborhood.geometry.split_with_sizes(neighborhood.num_edges)
        parts = zip(geometry, self.kernel_weight, self.kernel_bias, strict=True)
        linear = torch.cat([torch.addmm(bias, edges, weight) for edges, weight, bias in parts])
        return functional.leaky_relu(linear, 0.2) * neighborhood.smoothing


class _Convolve(Function):
    """Sums of outer products, and the linear map after them, in chunks of targets.

    The outer products of edges (E x K x w) are never stored: their sum over the edges of a target is a
    matrix product of kernels and source features. The sums (M x K x w) are stored for one chunk only and
    recomputed in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, features: Tensor, weight: Tensor, near: Neighborhood) -> Tensor:
        """[M, w] from kernel [E, K], features [M, w] and weight [w, K * w]."""
        ctx.save_for_backward(kernel, features, weight)
        ctx.near = near
        padded, source = _padded(kernel, near)
        with torch.autocast(features.device.type, enabled=False):
            outputs = [_outer_sums(padded[slots], features[source[slots]]) @ weight.T for slots in near.slots]
        return torch.cat(outputs) if outputs else torch.zeros_like(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of kernel, features and weight."""
        kernel, features, weight = ctx.saved_tensors
        padded, source = _padded(kernel, ctx.near)
        to_kernel = torch.zeros_like(padded)
        # Sums over many chunks and edges lose small terms in bfloat16.
        wide = torch.promote_types(features.dtype, torch.float32)
        to_features, to_weight = torch.zeros_like(features, dtype=wide), torch.zeros_like(weight, dtype=wide)
        first = 0
        for slots in ctx.near.slots:
            chunk = gradient[first : first + len(slots)]
            first += len(slots)
            kernels, senders = padded[slots], source[slots]
            sent = features[senders]
            to_weight += chunk.T @ _outer_sums(kernels, sent)
            to_sums = (chunk @ weight).unflatten(1, (kernel.shape[1], -1))
            to_kernel[slots] = sent @ to_sums.transpose(1, 2)
            to_features.index_add_(0, senders.flatten(), (kernels @ to_sums).flatten(0, 1).to(wide))
        return to_kernel[:-1], to_features.to(features.dtype), to_weight.to(weight.dtype), None


def _padded(kernel: Tensor, near: Neighborhood) -> tuple[Tensor, Tensor]:
    """Kernels and sources, with a kernel of zeros appended for empty slots."""
    return torch.cat([kernel, kernel.new_zeros(1, kernel.shape[1])]), functional.pad(near.source, (0, 1))


def _outer_sums(kernels: Tensor, sent: Tensor) -> Tensor:
    """[c, K * w] from kernels [c, D, K] and features [c, D, w]."""
    return (kernels.transpose(1, 2) @ sent).flatten(1)
