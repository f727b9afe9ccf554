"""EGNN: messages that know distances, and coordinates that follow them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.edges import plain_edges
from esmgn_pyg.library import MessagePassing, scatter
from esmgn_pyg.settings import NormedSettings
from esmgn_pyg.stack import joined, new_norm

_ANGSTROM = 0.1
"""An angstrom in the unit of the layers, which makes squared distances of neighbours about 1."""
_NEAREST = 1e-8
_FIRST_STEPS = 1e-3


class EGNN(nn.Module):
    """E(n)-equivariant graph network on CA atoms, with residue features in place of atom types.

    Every layer updates the representations and, but for the last, moves the CA atoms it computes
    distances of. Representations stay the same when a protein is turned, shifted or mirrored; the
    moved atoms turn with it, and are not part of the output.

    Shapes: features [N, input_dim] -> residue [N, output_dim], protein [B, output_dim].

    Source: Satorras et al. 2021 (arXiv 2102.09844).
    """

    class Settings(NormedSettings):
        hidden_dim: int = Field(256, ge=1)
        """Width of messages and of every layer."""
        move_atoms: bool = True
        """Whether layers move the CA atoms; else all of them see the distances of the protein."""
        gated: bool = False
        """Whether each message is weighted by a gate of its own, as in section 3.3 of the paper."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(input_dim, settings.hidden_dim)
        last = settings.num_layers - 1
        # Nothing would read what the last layer does to the atoms.
        self.layers = nn.ModuleList(
            EGNNLayer(settings, num_relations, moves=settings.move_atoms and number < last)
            for number in range(settings.num_layers)
        )
        self.norms = nn.ModuleList(new_norm(settings) for _ in self.layers)
        self.output_dim = settings.output_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        pairs, relations = plain_edges(graph)
        others = pairs[0] != pairs[1]
        pairs, relations = pairs[:, others], relations[others]
        atoms = batch.ca.float() * _ANGSTROM
        hidden = self.embed(features)
        hiddens = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            update, atoms = layer(hidden, atoms, pairs, relations)
            hidden = hidden + functional.dropout(norm(update), self.settings.dropout, self.training)
            hiddens.append(hidden)
        encoding: Encoding = self.readout(joined(hiddens, self.settings), batch)
        return encoding


class Messages(NamedTuple):
    """What neighbours send, or what of it arrives: hidden values, and steps of the atom if it moves."""

    hidden: Tensor
    step: Tensor | None


class EGNNLayer(MessagePassing):  # type: ignore[misc]  # untyped library
    r"""One equivariant layer.

    .. math::
        m_{ij} = \phi_e(h_i, h_j, \lVert x_i - x_j \rVert^2, a_{ij}), \quad
        u_i = \phi_h\Bigl(h_i, \sum_j m_{ij}\Bigr), \quad
        x_i' = x_i + \frac{1}{|\mathcal{N}(i)|} \sum_j
               \frac{x_i - x_j}{\lVert x_i - x_j \rVert + 1}\, \phi_x(m_{ij})

    with the relations a of a pair. The divisor, as in the authors' code, keeps far neighbours from
    throwing atoms about. phi_e's first linear map is taken apart, so that it is applied once for each
    residue and not for each edge.

    Shapes: hidden [N, D], atoms [N, 3] -> update [N, D], atoms [N, 3].
    """

    def __init__(self, settings: EGNN.Settings, num_relations: int, *, moves: bool) -> None:
        super().__init__(aggr=None)
        width = settings.hidden_dim
        self.from_source = nn.Linear(width, width, bias=False)
        self.from_target = nn.Linear(width, width, bias=False)
        self.from_edge = nn.Linear(1 + num_relations, width)
        self.edge = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.gate = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid()) if settings.gated else None
        self.node = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.step: nn.Sequential | None = None
        if moves:
            last = nn.Linear(width, 1, bias=False)
            nn.init.xavier_uniform_(last.weight, gain=_FIRST_STEPS)
            self.step = nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)

    def forward(
        self, hidden: Tensor, atoms: Tensor, pairs: Tensor, relations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The update of the representations, and the atoms where they are now.

        Args:
            hidden: float [N, D].
            atoms: float32 [N, 3].
            pairs: int64 [2, P], of two residues each.
            relations: float32 [P, R].
        """
        arrived = self.propagate(
            pairs,
            source=self.from_source(hidden),
            target=self.from_target(hidden),
            atoms=atoms,
            relations=relations,
        )
        update = self.node(torch.cat([hidden, arrived.hidden.to(hidden.dtype)], dim=1))
        return update, atoms if arrived.step is None else atoms + arrived.step

    def message(
        self, source_j: Tensor, target_i: Tensor, atoms_i: Tensor, atoms_j: Tensor, relations: Tensor
    ) -> Messages:
        """What travels along each pair, [P, D] and [P, 3]."""
        apart = atoms_i - atoms_j
        squared = apart.square().sum(dim=1, keepdim=True)
        message = self.edge(source_j + target_i + self.from_edge(torch.cat([squared, relations], dim=1)))
        step = None
        if self.step is not None:
            # Two atoms in one place: the root has no slope at 0.
            step = apart / ((squared + _NEAREST).sqrt() + 1) * self.step(message).float()
        if self.gate is not None:
            message = message * self.gate(message)
        return Messages(message, step)

    def aggregate(self, inputs: Messages, index: Tensor, dim_size: int) -> Messages:
        """The sum of what arrives at each residue, and the mean of its steps."""
        hidden = scatter(inputs.hidden, index, dim_size=dim_size, reduce="sum")
        if inputs.step is None:
            return Messages(hidden, None)
        return Messages(hidden, scatter(inputs.step, index, dim_size=dim_size, reduce="mean"))
