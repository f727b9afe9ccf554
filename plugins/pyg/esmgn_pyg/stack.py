"""Convolutions one above the other: what most encoders of this plugin are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.edges import plain_edges
from esmgn_pyg.settings import LayerSettings, NormedSettings


class ConvStack(nn.Module):
    r"""A linear embedding, then layers of one convolution each.

    .. math::
        x^{(0)} = W f + b, \quad
        x^{(l)} = x^{(l-1)} + \mathrm{Dropout}\bigl(\mathrm{ReLU}\bigl(
                  \mathrm{Norm}_l(\mathrm{Conv}_l(x^{(l-1)}))\bigr)\bigr)

    Shapes: features [N, input_dim] -> residue [N, output_dim], protein [B, output_dim].

    Args:
        settings: of the encoder.
        convs: one per layer, [N, hidden_dim] -> [N, hidden_dim].
        input_dim: width of the features.
    """

    def __init__(self, settings: NormedSettings, convs: Iterable[nn.Module], *, input_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(input_dim, settings.hidden_dim)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(new_norm(settings) for _ in self.convs)
        self.output_dim = settings.output_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """What every convolution reads besides the representations: here the pairs, int64 [2, P]."""
        return (plain_edges(graph).pairs,)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        edges = self.edges(batch, graph)
        hidden = self.embed(features)
        hiddens = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            update = functional.relu(norm(conv(hidden, *edges)))
            hidden = hidden + functional.dropout(update, self.settings.dropout, self.training)
            hiddens.append(hidden)
        encoding: Encoding = self.readout(joined(hiddens, self.settings), batch)
        return encoding


def new_norm(settings: NormedSettings) -> nn.Module:
    """A normalisation of ``hidden_dim`` channels."""
    if settings.norm == "layer":
        return nn.LayerNorm(settings.hidden_dim)
    return nn.BatchNorm1d(settings.hidden_dim) if settings.norm == "batch" else nn.Identity()


def joined(hiddens: list[Tensor], settings: LayerSettings) -> Tensor:
    """What the output of every layer, float [N, hidden_dim] each, makes of a residue."""
    return torch.cat(hiddens, dim=1) if settings.concat_hidden else hiddens[-1]
