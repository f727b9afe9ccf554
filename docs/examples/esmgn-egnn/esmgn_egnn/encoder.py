"""The structure encoder ``egnn``."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings


class EGNN(nn.Module):
    """One round of message passing, with the CA distance and the relation of each edge."""

    class Settings(ComponentSettings):
        """Settings of ``egnn``."""

        hidden_dim: int = 256
        """Width of the representation."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        dim = self.output_dim = settings.hidden_dim
        self.num_relations = num_relations
        self.embed = nn.Linear(input_dim, dim)
        self.message = nn.Sequential(nn.Linear(2 * dim + num_relations, dim), nn.SiLU())

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        hidden, (source, target) = self.embed(features), graph.edge_index
        distance = (batch.ca[source] - batch.ca[target]).norm(dim=-1, keepdim=True)
        geometry = distance * one_hot(graph.relation, self.num_relations)
        message = self.message(torch.cat([hidden[source], hidden[target], geometry], dim=-1))
        return Encoding.from_residues(hidden.index_add(0, target, message), batch)
