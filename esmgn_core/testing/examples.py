"""Small example proteins, graph and encoders, the same on every machine, with many edge cases."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from esmgn_core.alphabet import AMINO_ACIDS, NUM_RESIDUE_FEATURES, UNKNOWN
from esmgn_core.batch import CA, Encoding, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.neighbors import find_neighbors
from esmgn_core.settings import ComponentSettings

_CA_CA = 3.8
_BETWEEN_CHAINS = torch.tensor([9.0, 0.0, 0.0])
_RADIUS = 8.0


def example_proteins(seed: int = 0) -> list[Protein]:
    """Five made-up proteins.

    - ``two_chains``: 17 and 23 residues, one of unknown type;
    - ``single``: one residue;
    - ``long``: 120 residues, numbered from -3 with a gap, atoms missing here and there;
    - ``pair``: two residues;
    - ``predicted``: 33 residues with pLDDT.

    Args:
        seed: residue types and coordinates are formulas of it.
    """
    return [
        _protein("two_chains", (17, 23), seed, unknown=5),
        _protein("single", (1,), seed + 1),
        _protein("long", (120,), seed + 2, first_number=-3, incomplete=True),
        _protein("pair", (2,), seed + 3),
        _protein("predicted", (33,), seed + 4, plddt=True),
    ]


def example_batch(seed: int = 0) -> ProteinBatch:
    """The proteins of :func:`example_proteins` in one batch: B = 5, N = 196."""
    return ProteinBatch.from_proteins(example_proteins(seed))


def _protein(
    name: str,
    chain_lengths: tuple[int, ...],
    seed: int,
    *,
    first_number: int = 1,
    unknown: int | None = None,
    incomplete: bool = False,
    plddt: bool = False,
) -> Protein:
    number = torch.arange(sum(chain_lengths))
    residue_type = (number.square() * 37 + number * (2 * seed + 11) + seed) % 101 % len(AMINO_ACIDS)
    if unknown is not None:
        residue_type[unknown] = UNKNOWN
    residue_index = torch.cat([torch.arange(length) for length in chain_lengths]) + first_number
    atom_mask = torch.ones(len(number), 4, dtype=torch.bool)
    if incomplete:
        residue_index[40:] += 6
        atom_mask[-1, 3] = False
        atom_mask[0, 0] = False
        atom_mask[50:53] = False
        atom_mask[:, CA] = True
    chains = [_backbone(length, seed + 10 * i) for i, length in enumerate(chain_lengths)]
    backbone = torch.cat([atoms + _BETWEEN_CHAINS * i for i, atoms in enumerate(chains)])
    return Protein(
        name=name,
        residue_type=residue_type,
        backbone=backbone.masked_fill(~atom_mask.unsqueeze(-1), torch.nan),
        atom_mask=atom_mask,
        residue_index=residue_index,
        chain_index=torch.arange(len(chain_lengths)).repeat_interleave(torch.tensor(chain_lengths)),
        plddt=70 + 25 * torch.sin(number.float()) if plddt else None,
        chains=tuple("ABCDEFGH"[: len(chain_lengths)]),
    )


@functools.cache
def _backbone(length: int, phase: float) -> Tensor:
    """Backbone float32 [length, 4, 3]: a curve of CA atoms, 3.8 angstrom apart, with the other atoms."""
    i = torch.arange(length + 1, dtype=torch.float64)
    polar = 1.0 + 0.3 * torch.sin(0.9 * i + phase)
    azimuth = 1.6 * i + 0.5 * torch.sin(0.37 * i + 2 * phase)
    step = torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], dim=1)
    ca = _CA_CA * step.cumsum(0)
    along = step[1:]
    across = normalize(torch.linalg.cross(along, step[:-1]), dim=1)
    atoms = [-1.2 * along + 0.8 * across, 0 * along, 1.2 * along + 0.9 * across, 1.5 * along + 2.1 * across]
    return (ca[:-1].unsqueeze(1) + torch.stack(atoms, dim=1)).float()


class ExampleGraph(nn.Module):
    """A graph builder with four relations: self, previous residue, next residue, within 8 angstrom.

    The only residue of a protein has only its self-loop.
    """

    class Settings(ComponentSettings):
        """No settings."""

    num_relations = 4

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings

    @torch.no_grad()
    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch."""
        row = torch.arange(batch.num_residues, device=batch.ptr.device)
        protein, chain = batch.protein_index, batch.chain_index
        joined = (protein[1:] == protein[:-1]) & (chain[1:] == chain[:-1])
        bonded = torch.stack([row[:-1], row[1:]])[:, joined]
        close = find_neighbors(batch, _RADIUS, min_separation=2).close
        return ResidueGraph.from_relations([row.expand(2, -1), bonded, bonded.flip(0), close])


class ExampleSequenceEncoder(nn.Module):
    """A linear map of the residue type."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 10

    def __init__(self, output_dim: int = output_dim) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.linear = nn.Linear(NUM_RESIDUE_FEATURES, self.output_dim)

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Encode the residue types."""
        return Encoding.from_residues(self.linear(batch.residue_one_hot), batch, readout="mean")


class ExampleStructureEncoder(nn.Module):
    """A linear map of the features, with messages from the neighbours."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 14

    def __init__(self, input_dim: int, output_dim: int = output_dim) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.linear = nn.Linear(input_dim, self.output_dim)
        self.message = nn.Linear(self.output_dim, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` on the residue graph."""
        source, target = graph.edge_index
        hidden = self.linear(features)
        return Encoding.from_residues(hidden.index_add(0, target, self.message(hidden)[source]), batch)
