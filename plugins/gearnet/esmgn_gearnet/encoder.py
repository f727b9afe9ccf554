"""The structure encoder ``gearnet``."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.graph import ResidueGraph
from esmgn_core.layers import LayerSizes, LayerState
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_gearnet.conv import RelationalConv
from esmgn_gearnet.neighborhoods import Neighborhoods
from esmgn_gearnet.published import PublishedGearNet
from esmgn_gearnet.side_by_side import SideBySide


class GearNet(PublishedGearNet):
    r"""Geometry-aware relational graph network.

    Each layer is a relational convolution, a short cut if input and output have the same width, and a second
    batch normalisation without activation:

    .. math::
        x^{(l)} = \mathrm{BN}\bigl(\mathrm{Conv}_l(x^{(l-1)}) + x^{(l-1)}\bigr)

    The residue representation is the concatenation of all layers.

    Shapes: features [N, input_dim] -> residue [N, num_layers * hidden_dim], protein
    [B, num_layers * hidden_dim].

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.2.
    """

    class Settings(ComponentSettings):
        hidden_dim: int = Field(512, ge=1)
        """Width of every layer."""
        num_layers: int = Field(6, ge=1)
        """Number of layers."""
        short_cut: bool = True
        """Add a layer's input to its output if both have the same width."""
        concat_hidden: bool = True
        """Return the outputs of all layers, concatenated. If false, return that of the last layer."""
        readout: Readout = "sum"
        """Pooling of residues into a protein."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings = settings
        widths = [input_dim, *[settings.hidden_dim] * settings.num_layers]
        self.layers = nn.ModuleList(
            RelationalConv(width, settings.hidden_dim, num_relations) for width in widths[:-1]
        )
        self.batch_norms = nn.ModuleList(nn.BatchNorm1d(settings.hidden_dim) for _ in self.layers)
        self.output_dim = settings.hidden_dim * (settings.num_layers if settings.concat_hidden else 1)
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        neighborhoods = Neighborhoods(graph, batch.num_residues)
        hidden, kept, outputs = features, None, SideBySide(self.settings.num_layers)
        for conv, batch_norm in zip(self.layers, self.batch_norms, strict=True):
            same_width = hidden.shape[1] == self.settings.hidden_dim
            shortcut = hidden if self.settings.short_cut and same_width else None
            hidden = conv(neighborhoods, hidden, shortcut, batch_norm, kept)
            if self.settings.concat_hidden:
                kept = outputs.append(hidden)
        output = outputs.join() if self.settings.concat_hidden else hidden
        encoding: Encoding = self.readout(output, batch)
        return encoding

    def layer_sizes(self) -> LayerSizes:
        """Number of layers, and their width."""
        return LayerSizes(self.settings.num_layers, self.settings.hidden_dim)

    def begin(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        features: Tensor,
        tokens: Tensor | None = None,
        relation: int | None = None,
    ) -> LayerState:
        """The state before the first layer; see :class:`esmgn_core.protocols.LayeredStructure`.

        Raises:
            SettingsError: the graph has no such relation.
        """
        number, residue = batch.num_residues, torch.arange(batch.num_residues, device=features.device)
        node = number + torch.arange(0 if tokens is None else len(batch), device=features.device)
        if tokens is not None:
            features = torch.cat([features, tokens.to(features.dtype)])
            if relation is not None:
                graph = _with_nodes(graph, residue, number + batch.protein_index, relation)
        return LayerState(
            features, residue, node, node - number, context=(batch, Neighborhoods(graph, len(features)))
        )

    def layer(self, number: int, state: LayerState) -> LayerState:
        """Run the layer ``number``, from 1."""
        _, neighborhoods = state.context
        same_width = state.hidden.shape[1] == self.settings.hidden_dim
        shortcut = state.hidden if self.settings.short_cut and same_width else None
        conv, batch_norm = self.layers[number - 1], self.batch_norms[number - 1]
        hidden = conv(neighborhoods, state.hidden, shortcut, batch_norm)
        keeps = self.settings.concat_hidden or number == self.settings.num_layers
        kept = {**state.kept, number: hidden[state.residue_row]} if keeps else state.kept
        return replace(state, hidden=hidden, kept=kept)

    def finish(self, state: LayerState) -> Encoding:
        """The encoding of the residues, without added nodes; see :meth:`forward`."""
        encoding: Encoding = self.readout(torch.cat([*state.kept.values()], dim=1), state.context[0])
        return encoding


def _with_nodes(graph: ResidueGraph, residue: Tensor, node: Tensor, relation: int) -> ResidueGraph:
    """A graph with edges between each residue and its node in both directions."""
    if relation >= graph.num_relations:
        raise SettingsError(
            f"the graph has relations 0 to {graph.num_relations - 1}, and the token asks for {relation}",
            "choose one of them: --set fuse.token_relation=NUMBER",
        )
    there = torch.stack([residue, node])
    return ResidueGraph.from_edges(
        torch.cat([graph.edge_index, there, there.flip(0)], dim=1),
        torch.cat([graph.relation, graph.relation.new_full((2 * len(residue),), relation)]),
        graph.num_relations,
    )
