"""The structure encoder ``egnn``."""

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings

NM = 0.1  # angstrom to nanometre: inputs of order 1


class EGNN(nn.Module):
    """Messages along edges that also move the residues; equivariant to rotation and translation."""

    class Settings(ComponentSettings):
        hidden_dim: int = Field(256, ge=1)
        """Width of the representation."""
        num_layers: int = Field(3, ge=1)
        """Rounds of messages."""
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings, dim = settings, settings.hidden_dim
        self.output_dim = dim
        self.embed = nn.Linear(input_dim, dim)
        moves = [True] * (settings.num_layers - 1) + [False]  # the last positions would not be used
        self.layers = nn.ModuleList(Layer(dim, num_relations, moves=move) for move in moves)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph: [N, hidden_dim] and [B, hidden_dim]."""
        hidden, _ = self.encode(batch.ca, graph, features)
        return Encoding.from_residues(hidden, batch, self.settings.readout)

    def encode(self, ca: Tensor, graph: ResidueGraph, features: Tensor) -> tuple[Tensor, Tensor]:
        """Representations [N, hidden_dim], and the moved CA atoms [N, 3] in angstrom."""
        hidden, position = self.embed(features), ca * NM
        for layer in self.layers:
            hidden, position = layer(hidden, position, graph)
        return hidden, position / NM


class Layer(nn.Module):
    """One round: messages by distance and relation, then new positions and representations."""

    def __init__(self, dim: int, num_relations: int, *, moves: bool) -> None:
        super().__init__()
        self.relation = nn.Embedding(num_relations, dim)
        self.pair = nn.Linear(2 * dim + 1, dim)
        self.message = nn.Linear(dim, dim)
        self.move = nn.Linear(dim, 1) if moves else None
        self.update = nn.Linear(2 * dim, dim)

    def forward(self, hidden: Tensor, position: Tensor, graph: ResidueGraph) -> tuple[Tensor, Tensor]:
        """Representations [N, dim] and positions [N, 3] after the round."""
        source, target = graph.edge_index
        offset = position[target] - position[source]
        square = offset.square().sum(1, keepdim=True).to(hidden.dtype)
        pair = self.pair(torch.cat([hidden[source], hidden[target], square], 1))
        message = self.message((pair + self.relation(graph.relation)).relu()).relu()
        degree = torch.bincount(target, minlength=len(hidden)).clamp(min=1).unsqueeze(1)
        if self.move is not None:
            shift = offset * self.move(message).tanh().to(offset.dtype)
            position = position + position.new_zeros(position.shape).index_add(0, target, shift) / degree
        total = message.new_zeros(len(hidden), message.shape[1]).index_add(0, target, message) / degree
        return hidden + self.update(torch.cat([hidden, total.to(hidden.dtype)], 1)), position
