"""Small example proteins, graph and encoders, the same on every machine, with many edge cases."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from esmgn_core.alphabet import AMINO_ACIDS, NUM_RESIDUE_FEATURES, UNKNOWN
from esmgn_core.batch import CA, Encoding, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.layers import Inject, LayerSizes, LayerState
from esmgn_core.neighbors import find_neighbors
from esmgn_core.settings import ComponentSettings

_CA_CA = 3.8
_BETWEEN_CHAINS = torch.tensor([9.0, 0.0, 0.0])
_RADIUS = 8.0
FEATURES_DIM = 24
"""Width of :func:`example_features`."""


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


def example_features(batch: ProteinBatch, input_dim: int = FEATURES_DIM) -> Tensor:
    """Features float32 [N, input_dim], a formula of residue types and numbers."""
    width = torch.arange(input_dim, device=batch.ptr.device)
    phase = batch.residue_type.unsqueeze(1) * (width + 1) * 0.7 + batch.residue_index.unsqueeze(1) * 0.3
    return torch.sin(phase + width)


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


class ExampleLayeredEncoder(nn.Module):
    """A sequence encoder of three blocks, each of which mixes the rows of a protein."""

    class Settings(ComponentSettings):
        """No settings."""

    joins_chains = True
    num_blocks = 3

    def __init__(self, output_dim: int = ExampleSequenceEncoder.output_dim) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.linear = nn.Linear(NUM_RESIDUE_FEATURES, output_dim)
        self.mixed = nn.ModuleList(nn.Linear(output_dim, output_dim) for _ in range(self.num_blocks))

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Encode the residue types."""
        state = self.embed(batch)
        for number in range(1, self.num_blocks + 1):
            state = self.block(number, state)
        return self.finish(state)

    def layer_sizes(self) -> LayerSizes:
        """Three blocks."""
        return LayerSizes(self.num_blocks, self.output_dim)

    def embed(self, batch: ProteinBatch, tokens: Tensor | None = None) -> LayerState:
        """Rows of residues, then one of each token."""
        return _rows(batch, self.linear(batch.residue_one_hot), tokens, context=batch)

    def block(self, number: int, state: LayerState, inject: Inject | None = None) -> LayerState:
        """Add a map of each row and of the mean of its protein."""
        batch: ProteinBatch = state.context
        protein = torch.cat([batch.protein_index, state.token_protein])
        total = state.hidden.new_zeros(len(batch), state.hidden.shape[1]).index_add(0, protein, state.hidden)
        mean = total / protein.bincount(minlength=len(batch)).clamp(min=1).unsqueeze(1)
        update = self.mixed[number - 1](state.hidden + mean[protein])
        if inject is not None:
            update = update + sum(inject(state.hidden))
        return replace(state, hidden=state.hidden + torch.tanh(update))

    def finish(self, state: LayerState) -> Encoding:
        """The rows of the residues."""
        return Encoding.from_residues(state.hidden[state.residue_row], state.context, readout="mean")


class ExampleLayeredStructure(nn.Module):
    """A structure encoder of two layers, each with messages from the neighbors; relations are ignored."""

    class Settings(ComponentSettings):
        """No settings."""

    num_layers = 2

    def __init__(self, input_dim: int, output_dim: int = ExampleStructureEncoder.output_dim) -> None:
        super().__init__()
        self.output_dim = output_dim
        widths = (input_dim, output_dim)
        self.messages = nn.ModuleList(nn.Linear(width, output_dim) for width in widths)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` on the residue graph."""
        state = self.begin(batch, graph, features)
        for number in range(1, self.num_layers + 1):
            state = self.layer(number, state)
        return self.finish(state)

    def layer_sizes(self) -> LayerSizes:
        """Two layers."""
        return LayerSizes(self.num_layers, self.output_dim)

    def begin(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        features: Tensor,
        tokens: Tensor | None = None,
        relation: int | None = None,
    ) -> LayerState:
        """Rows of residues, then one of each token, joined to its residues."""
        edges = graph.edge_index
        if tokens is not None and relation is not None:
            residue = torch.arange(batch.num_residues, device=features.device)
            there = torch.stack([residue, batch.num_residues + batch.protein_index])
            edges = torch.cat([edges, there, there.flip(0)], dim=1)
        return _rows(batch, features, tokens, context=(batch, edges))

    def layer(self, number: int, state: LayerState) -> LayerState:
        """Add the messages of the neighbors."""
        source, target = state.context[1]
        message = self.messages[number - 1](state.hidden)
        return replace(state, hidden=torch.tanh(message.index_add(0, target, message[source])))

    def finish(self, state: LayerState) -> Encoding:
        """The rows of the residues."""
        return Encoding.from_residues(state.hidden[state.residue_row], state.context[0])


def _rows(batch: ProteinBatch, rows: Tensor, tokens: Tensor | None, context: object) -> LayerState:
    number = batch.num_residues
    added = torch.arange(0 if tokens is None else len(batch), device=rows.device)
    hidden = rows if tokens is None else torch.cat([rows, tokens.to(rows.dtype)])
    residue = torch.arange(number, device=rows.device)
    return LayerState(hidden, residue, number + added, added, context=context)
