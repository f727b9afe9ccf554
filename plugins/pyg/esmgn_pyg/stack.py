"""Base classes of encoders with layers of one width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.edges import plain_edges
from esmgn_pyg.settings import LayerSettings, NormedSettings


class LayerEncoder(nn.Module):
    """A linear embedding of the features, then the layers of a subclass.

    Shapes: features [N, input_dim] -> residue [N, output_dim], protein [B, output_dim].
    """

    def __init__(self, settings: LayerSettings, *, input_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(input_dim, settings.hidden_dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.output_dim = settings.hidden_dim * (settings.num_layers if settings.concat_hidden else 1)
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def layer_outputs(self, hidden: Tensor, batch: ProteinBatch, graph: ResidueGraph) -> Iterator[Tensor]:
        """Output of each layer in turn, float [N, hidden_dim], from the embedding, float [N, hidden_dim]."""
        raise NotImplementedError

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        outputs = list(self.layer_outputs(self.embed(features), batch, graph))
        residue = torch.cat(outputs, dim=1) if self.settings.concat_hidden else outputs[-1]
        encoding: Encoding = self.readout(residue, batch)
        return encoding


class ConvEncoder(LayerEncoder):
    r"""Layers with one convolution each, which a subclass creates.

    .. math::
        x^{(0)} = W f + b, \quad
        x^{(l)} = x^{(l-1)} + \mathrm{Dropout}\bigl(\mathrm{ReLU}\bigl(
                  \mathrm{Norm}_l(\mathrm{Conv}_l(x^{(l-1)}))\bigr)\bigr)
    """

    Settings: type[NormedSettings] = NormedSettings

    def __init__(self, settings: NormedSettings, *, input_dim: int, num_relations: int) -> None:
        super().__init__(settings, input_dim=input_dim)
        self.num_relations = num_relations
        self.convs = nn.ModuleList(self.conv() for _ in range(settings.num_layers))
        self.norms = nn.ModuleList(new_norm(settings) for _ in self.convs)

    def conv(self) -> Any:
        """A new convolution, [N, hidden_dim] -> [N, hidden_dim]."""
        raise NotImplementedError

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Arguments of every convolution after the representations; by default pairs, int64 [2, P]."""
        return plain_edges(graph)[:1]

    def layer_outputs(self, hidden: Tensor, batch: ProteinBatch, graph: ResidueGraph) -> Iterator[Tensor]:
        """Output of each layer in turn, float [N, hidden_dim]."""
        edges = self.edges(batch, graph)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = hidden + self.dropout(norm(conv(hidden, *edges)).relu())
            yield hidden


def new_norm(settings: NormedSettings) -> nn.Module:
    """Create a normalisation of ``hidden_dim`` channels."""
    if settings.norm == "layer":
        return nn.LayerNorm(settings.hidden_dim)
    return nn.BatchNorm1d(settings.hidden_dim) if settings.norm == "batch" else nn.Identity()
