"""The geometric vector perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from esmgn_gvp.features import Dims, Features, lengths


class GVP(nn.Module):
    r"""A perceptron on scalars s and vectors V, with vector gates.

    .. math::
        V_h &= W_h V \\
        s'  &= W_s [s \,\Vert\, \lVert V_h \rVert] + b_s \\
        V'  &= \sigma(W_g s' + b_g) \odot W_v V_h \\
        s'  &\leftarrow \mathrm{ReLU}(s')

    W_h and W_v mix channels only, so that V' rotates with V. The gate reads s' before the activation.
    V_h has as many channels as the larger of input and output. Without input vectors only the scalar map
    remains and V' is zero. Without output vectors there is neither W_v nor a gate.

    Args:
        inputs: scalar and vector channels of the input.
        outputs: scalar and vector channels of the output.
        activation: apply ReLU to s'. The last perceptron of a stack has no activation.

    Shapes: [M, s], [M, 3, v] -> [M, s'], [M, 3, v'].

    Source: Jing et al. 2021 (arXiv 2009.01411), algorithm 1, with the gates of arXiv 2106.03843.
    """

    def __init__(self, inputs: Dims, outputs: Dims, *, activation: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs, self.activation = inputs, outputs, activation
        hidden = max(inputs.vectors, outputs.vectors) if inputs.vectors else 0
        self.scalar = nn.Linear(inputs.scalars + hidden, outputs.scalars)
        if hidden:
            self.hidden = nn.Linear(inputs.vectors, hidden, bias=False)
        if hidden and outputs.vectors:
            self.vector = nn.Linear(hidden, outputs.vectors, bias=False)
            self.gate = nn.Linear(outputs.scalars, outputs.vectors)

    def forward(self, features: Features) -> Features:
        """Map each residue or edge separately."""
        scalars, vectors = features.scalars, features.vectors
        if not self.inputs.vectors:
            none = vectors.new_zeros(len(vectors), 3, self.outputs.vectors)
            return Features(self._activated(self.scalar(scalars)), none)
        hidden = self.hidden(vectors)
        of_scalars, of_lengths = self.scalar.weight.split_with_sizes(
            [self.inputs.scalars, hidden.shape[-1]], dim=1
        )
        # Two products avoid a copy that concatenates their inputs.
        mapped = linear(scalars, of_scalars, self.scalar.bias) + linear(lengths(hidden), of_lengths)
        return self.gated(mapped, hidden)

    def gated(self, scalars: Tensor, hidden: Tensor) -> Features:
        """Apply gate and activation to ``scalars`` (s' before its activation) and ``hidden`` (V_h)."""
        if self.outputs.vectors:
            vectors = self.vector(hidden) * torch.sigmoid(self.gate(scalars)).unsqueeze(-2)
        else:
            vectors = hidden[..., :0]
        return Features(self._activated(scalars), vectors)

    def _activated(self, scalars: Tensor) -> Tensor:
        return torch.relu(scalars) if self.activation else scalars
