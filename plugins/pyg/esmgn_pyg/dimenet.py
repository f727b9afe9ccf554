"""DimeNet++ on residues: messages that depend on distances and angles."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.bessel import SphericalBasis
from esmgn_pyg.edges import edges_within
from esmgn_pyg.library import dimenet
from esmgn_pyg.settings import EncoderSettings

_ENVELOPE_EXPONENT = 5
_NEAREST = 1.5
"""Smaller distances are raised to this one, in angstrom. CA atoms of real proteins are farther apart."""


class DimeNet(nn.Module):
    """DimeNet++ with residue features instead of atomic numbers, and CA atoms instead of all atoms.

    Each round updates the message of every edge j -> i from the messages k -> j, the distance of k and j,
    and the angle at j. The messages into a residue are added to its embedded feature after each round, so
    that a residue without neighbours keeps its feature. Time and memory grow with the number of pairs of
    consecutive edges: about 80 per residue of a globular protein on a radius graph with a cutoff of
    8 angstrom, and 280 with 10 angstrom.

    Shapes: features [N, input_dim] -> residue [N, hidden_dim], protein [B, hidden_dim].

    Source: Gasteiger et al. 2020 (arXiv 2003.03123 and 2011.14115).
    """

    class Settings(EncoderSettings):
        hidden_dim: int = Field(128, ge=1)
        """Width of messages and of the output."""
        num_layers: int = Field(4, ge=1)
        """Number of rounds of messages."""
        triplet_dim: int = Field(64, ge=1)
        """Width of a message where it is multiplied by functions of distance and angle."""
        basis_dim: int = Field(8, ge=1)
        """Width to which the basis functions are projected."""
        output_hidden_dim: int = Field(256, ge=1)
        """Width of the perceptrons that read the messages of a round."""
        num_spherical: int = Field(7, ge=1, le=16)
        """Number of spherical harmonics of the angle."""
        num_radial: int = Field(6, ge=1, le=32)
        """Number of radial basis functions of the distance."""
        cutoff: float = Field(8.0, ge=2)
        """Distance at which messages vanish, in angstrom. Longer edges of the graph are left out."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        width, radial, spherical = settings.hidden_dim, settings.num_radial, settings.num_spherical
        self.radial_basis = dimenet.BesselBasisLayer(radial, settings.cutoff, _ENVELOPE_EXPONENT)
        self.spherical_basis = SphericalBasis(
            spherical, radial, cutoff=settings.cutoff, envelope_exponent=_ENVELOPE_EXPONENT
        )
        self.embed = nn.Linear(input_dim, width)
        self.embed_radial = nn.Linear(radial, width)
        self.embed_edge = nn.Linear(3 * width, width)
        self.interactions = nn.ModuleList(
            dimenet.InteractionPPBlock(
                width, settings.triplet_dim, settings.basis_dim, spherical, radial, 1, 2, functional.silu
            )
            for _ in range(settings.num_layers)
        )
        self.outputs = nn.ModuleList(
            dimenet.OutputPPBlock(
                radial, width, settings.output_hidden_dim, width, 3, functional.silu, "glorot_orthogonal"
            )
            for _ in range(settings.num_layers + 1)
        )
        self.output_dim = width
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        edge_index, distance = edges_within(batch, graph, self.settings.cutoff)
        # Bessel functions and envelope contain 1 / distance.
        distance = distance.clamp(min=_NEAREST)
        incoming, outgoing = find_triplets(edge_index, batch.num_residues)
        radial = self.radial_basis(distance)
        angle = angles(batch.ca.float(), edge_index, incoming, outgoing)
        spherical = self.spherical_basis(distance, angle, incoming)

        hidden = self.embed(features)
        message = self._embedded(hidden, radial, edge_index)
        target = edge_index[1]
        output = hidden + self.outputs[0](message, radial, target, batch.num_residues)
        for interaction, read in zip(self.interactions, self.outputs[1:], strict=True):
            message = interaction(message, radial, spherical, incoming, outgoing)
            output = output + read(message, radial, target, batch.num_residues)
        encoding: Encoding = self.readout(output, batch)
        return encoding

    def _embedded(self, hidden: Tensor, radial: Tensor, edge_index: Tensor) -> Tensor:
        """The first message of every edge, float [E, hidden_dim]."""
        source, target = edge_index
        length = functional.silu(self.embed_radial(radial))
        parts = [hidden[target], hidden[source], length.to(hidden.dtype)]
        return functional.silu(self.embed_edge(torch.cat(parts, dim=1)))


def find_triplets(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Find all pairs of edges k -> j and j -> i with k != i, in edges int64 [2, E] sorted by target.

    Returns:
        int64 [T], the edge k -> j; int64 [T], the edge j -> i.
    """
    source, target = edge_index
    nodes = torch.arange(num_nodes + 1, device=source.device)
    first = torch.searchsorted(target.contiguous(), nodes)
    count = first.diff()[source]
    outgoing = torch.arange(len(source), device=source.device).repeat_interleave(count)
    position = torch.arange(len(outgoing), device=source.device) - (count.cumsum(0) - count)[outgoing]
    incoming = first[source[outgoing]] + position
    onward = source[incoming] != target[outgoing]
    return incoming[onward], outgoing[onward]


def angles(ca: Tensor, edge_index: Tensor, incoming: Tensor, outgoing: Tensor) -> Tensor:
    """Angle by which the path k -> j -> i turns at j, float32 [T], in radians; 0 if it is straight."""
    source, target = edge_index
    step = ca[target] - ca[source]
    before, after = step[incoming], step[outgoing]
    across = torch.linalg.vector_norm(torch.linalg.cross(before, after, dim=1), dim=1)
    return torch.atan2(across, (before * after).sum(dim=1))
