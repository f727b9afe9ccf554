"""The structure encoder ``cdconv``, which pools along the sequence."""

from __future__ import annotations

import itertools
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from esmgn_cdconv.conv import ContinuousDiscreteConv
from esmgn_cdconv.level import Level
from esmgn_cdconv.neighborhood import Neighborhood
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings


class CDConv(nn.Module):
    """Continuous-discrete convolutions over four levels. Each level has half the length of the one before.

    A level has two residual blocks on the graph of all points closer than its radius. Between levels, the
    features, positions and frames of consecutive points are averaged in pairs. The protein representation is
    the readout of the last level.

    After pooling there are no representations of single residues. The representation of a residue is
    therefore that of its protein: tasks that predict from residues cannot distinguish them.

    The residue graph is **ignored**: each level builds its own graph from coordinates, without a cap on
    neighbours. Edges that a pretext task removes therefore stay, while changed coordinates have an effect.
    Offsets along the sequence are differences of residue numbers as in the file, also across chains. The
    neighbour search runs on the CPU and takes about 3 microseconds per residue for all levels. On a GPU each
    level waits for it.

    Batch normalisation in training needs two points on the last level: torch refuses a batch of one protein
    with at most eight residues.

    Shapes: features [N, input_dim] -> residue [N, hidden_dims[-1]], protein [B, hidden_dims[-1]].

    Source: Fan et al. 2023 (ICLR), section 3 and appendix, with the sizes of Zhang et al. 2023
    (arXiv 2303.06275).
    """

    resolves_residues = False
    reads_graph = False

    class Settings(ComponentSettings):
        embedding_dim: int = Field(16, ge=1)
        """Width of the input of the first level."""
        hidden_dims: tuple[int, ...] = Field((256, 512, 1024, 2048), min_length=1)
        """Width of each level."""
        radii: tuple[float, ...] = Field((8.0, 12.0, 16.0, 20.0), min_length=1)
        """Radius of each level's graph, in angstrom."""
        base_width: int = Field(16, ge=1)
        """Width of a block's convolution per 64 channels of the level."""
        kernel_dim: int = Field(32, ge=1)
        """Number of kernel values of an edge."""
        num_offsets: int = Field(21, ge=1)
        """Number of sequence offsets with separate kernels, odd. Larger offsets share the outermost ones."""
        dropout: float = Field(0.2, ge=0, lt=1)
        """Share of features dropped before every linear map."""
        batch_norm_momentum: float = Field(0.2, gt=0, le=1)
        """Weight of a new batch in the running statistics."""
        readout: Readout = "mean"
        """Pooling of the points of the last level into a protein."""

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            if len(self.hidden_dims) != len(self.radii):
                raise ValueError("hidden_dims and radii must have one entry for each level")
            if min(self.hidden_dims) * self.base_width < 64:
                raise ValueError("each of hidden_dims must be at least 64 / base_width")
            if min(self.radii) <= 0:
                raise ValueError("radii must be greater than 0")
            if self.num_offsets % 2 == 0:
                raise ValueError("num_offsets must be odd")
            return self

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        self.embedding = nn.Linear(input_dim, settings.embedding_dim, bias=False)
        widths = [settings.embedding_dim, *settings.hidden_dims]
        self.first_blocks = nn.ModuleList(
            _Block(before, width, settings) for before, width in itertools.pairwise(widths)
        )
        self.second_blocks = nn.ModuleList(_Block(width, width, settings) for width in settings.hidden_dims)
        self.output_dim = settings.hidden_dims[-1]
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:  # noqa: ARG002
        """Encode ``features`` [N, input_dim]; ``graph`` is not used."""
        level, hidden = Level.of(batch), self.embedding(features)
        blocks = zip(self.first_blocks, self.second_blocks, self.settings.radii, strict=True)
        for number, (first, second, radius) in enumerate(blocks):
            if number:
                level, pairs = level.pooled()
                hidden = pairs.mean(hidden)
            near = Neighborhood.of(level, radius=radius, max_offset=self.settings.num_offsets // 2)
            hidden = second(near, first(near, hidden))
        protein = self.readout(hidden.float(), level.points).protein
        return Encoding(protein.index_select(0, batch.protein_index), protein)


class _Block(nn.Module):
    """A convolution between two linear maps, and a short cut.

    Shapes: features [M, input_dim] -> [M, output_dim].
    """

    def __init__(self, input_dim: int, output_dim: int, settings: CDConv.Settings) -> None:
        super().__init__()
        width = output_dim * settings.base_width // 64

        def activated(channels: int) -> list[nn.Module]:
            norm = nn.BatchNorm1d(channels, momentum=settings.batch_norm_momentum)
            return [norm, nn.LeakyReLU(0.1), nn.Dropout(settings.dropout)]

        self.short_cut = nn.Sequential()
        if input_dim != output_dim:
            self.short_cut.extend([*activated(input_dim), nn.Linear(input_dim, output_dim, bias=False)])
        self.before = nn.Sequential(
            *activated(input_dim), nn.Linear(input_dim, width, bias=False), *activated(width)
        )
        self.conv = ContinuousDiscreteConv(
            width, kernel_dim=settings.kernel_dim, num_offsets=settings.num_offsets
        )
        self.after = nn.Sequential(*activated(width), nn.Linear(width, output_dim, bias=False))

    def forward(self, near: Neighborhood, features: Tensor) -> Tensor:
        """Update ``features`` over the neighborhood."""
        convolved = self.conv(near, self.before(features))
        updated: Tensor = self.short_cut(features) + self.after(convolved)
        return updated
