"""EGNN: messages that depend on distances, and that update the coordinates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.edges import plain_edges
from esmgn_pyg.library import scatter
from esmgn_pyg.settings import NormedSettings
from esmgn_pyg.stack import LayerEncoder, new_norm

_ANGSTROM = 0.1
"""Unit of coordinates in the layers, per angstrom. Squared distances of neighbours are then about 1."""
_NEAREST = 1e-8
_FIRST_STEPS = 1e-3


class EGNN(LayerEncoder):
    """E(n)-equivariant graph network on CA atoms, with residue features instead of atom types.

    Every layer updates the representations. All layers but the last also move the CA atoms, from which the
    next layer computes distances. Representations are invariant to rotations, translations and reflections
    of the protein. The moved atoms are not part of the output.

    Source: Satorras et al. 2021 (arXiv 2102.09844).
    """

    class Settings(NormedSettings):
        hidden_dim: int = Field(256, ge=1)
        """Width of messages and of every layer."""
        move_atoms: bool = True
        """Move the CA atoms from layer to layer. If false, all layers read the distances of the protein."""
        gated: bool = False
        """Weight each message by a learned gate, as in section 3.3 of the paper."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__(settings, input_dim=input_dim)
        last = settings.num_layers - 1
        # No layer reads the atoms after the last one.
        self.layers = nn.ModuleList(
            EGNNLayer(settings, num_relations, moves=settings.move_atoms and number < last)
            for number in range(settings.num_layers)
        )
        self.norms = nn.ModuleList(new_norm(settings) for _ in self.layers)

    def layer_outputs(self, hidden: Tensor, batch: ProteinBatch, graph: ResidueGraph) -> Iterator[Tensor]:
        """Output of each layer in turn, float [N, hidden_dim]."""
        pairs, relations = plain_edges(graph)
        others = pairs[0] != pairs[1]
        pairs, relations = pairs[:, others], relations[others]
        atoms = batch.ca.float() * _ANGSTROM
        for layer, norm in zip(self.layers, self.norms, strict=True):
            update, atoms = layer(hidden, atoms, pairs, relations)
            hidden = hidden + self.dropout(norm(update))
            yield hidden


class EGNNLayer(nn.Module):
    r"""One equivariant layer.

    .. math::
        m_{ij} = \phi_e(h_i, h_j, \lVert x_i - x_j \rVert^2, a_{ij}), \quad
        u_i = \phi_h\Bigl(h_i, \sum_j m_{ij}\Bigr), \quad
        x_i' = x_i + \frac{1}{|\mathcal{N}(i)|} \sum_j
               \frac{x_i - x_j}{\lVert x_i - x_j \rVert + 1}\, \phi_x(m_{ij})

    with the relations a of a pair. The divisor, as in the authors' code, limits the steps caused by far
    neighbours. The first linear map of phi_e is split, so that it is applied once per residue instead of
    once per edge.

    Shapes: hidden [N, D], atoms [N, 3] -> update [N, D], atoms [N, 3].
    """

    def __init__(self, settings: EGNN.Settings, num_relations: int, *, moves: bool) -> None:
        super().__init__()
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
        """The update of the representations, and the new positions of the atoms.

        Args:
            hidden: float [N, D].
            atoms: float32 [N, 3].
            pairs: int64 [2, P], pairs of different residues.
            relations: float32 [P, R].
        """
        source, target = pairs
        apart = atoms[target] - atoms[source]
        squared = apart.square().sum(dim=1, keepdim=True)
        known = self.from_edge(torch.cat([squared, relations], dim=1))
        message = self.edge(self.from_source(hidden)[source] + self.from_target(hidden)[target] + known)
        if self.step is not None:
            # The derivative of the root is infinite at 0, where two atoms coincide.
            step = apart / ((squared + _NEAREST).sqrt() + 1) * self.step(message).float()
            atoms = atoms + scatter(step, target, dim_size=len(atoms), reduce="mean")
        if self.gate is not None:
            message = message * self.gate(message)
        arrived = scatter(message, target, dim_size=len(hidden), reduce="sum").to(hidden.dtype)
        return self.node(torch.cat([hidden, arrived], dim=1)), atoms
