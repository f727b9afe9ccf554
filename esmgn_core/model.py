"""The joint encoder and one training step, both assembled from components."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import Fuser, GraphBuilder, PretextTask, SequenceEncoder, StructureEncoder


class JointEncoder(nn.Module):
    """A sequence encoder, a structure encoder and the fuser that wires them.

    Tensors are named ``sequence.*``, ``structure.*`` and ``fuser.*``.
    """

    sequence: SequenceEncoder
    structure: StructureEncoder
    fuser: Fuser

    def __init__(self, sequence: SequenceEncoder, structure: StructureEncoder, fuser: Fuser) -> None:
        super().__init__()
        self.sequence = sequence
        self.structure = structure
        self.fuser = fuser
        self.output_dim = fuser.output_dim
        self.sequence_frozen = False

    def freeze_sequence(self) -> Self:
        """Take the sequence encoder out of training: no gradients, evaluation mode for good."""
        self.sequence_frozen = True
        self.get_submodule("sequence").requires_grad_(requires_grad=False).eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode for all parts but a frozen sequence encoder."""
        super().train(mode)
        if self.sequence_frozen:
            self.get_submodule("sequence").eval()
        return self

    def forward(self, batch: ProteinBatch, graph: ResidueGraph) -> Encoding:
        """The joint encoding: residue [N, output_dim] and protein [B, output_dim]."""
        return self.fuser(batch, graph, self.sequence, self.structure)


class TrainStep(nn.Module):
    """Everything between a batch and its loss, as the one module that DDP wraps.

    Args:
        encoder: the joint encoder.
        task: a pretext task with its heads.
        build_graph: draws the edges of a view.
        precision: autocast dtype of encoder and heads, or ``None`` for float32 throughout. Geometry
            is always float32.
    """

    task: PretextTask
    build_graph: GraphBuilder

    def __init__(
        self,
        encoder: JointEncoder,
        task: PretextTask,
        build_graph: GraphBuilder,
        *,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.task = task
        self.build_graph = build_graph
        self.precision = precision

    def forward(self, batch: ProteinBatch, draws: Draws) -> TaskOutput:
        """Loss and metrics of the batch under the given draws."""
        with torch.no_grad():
            views = self.task.views(batch, self.build_graph, draws)
        device = batch.ptr.device.type
        with torch.autocast(device, self.precision, enabled=self.precision is not None):
            encodings = [self.encoder(view.batch, view.graph) for view in views]
            return self.task.loss(views, encodings)
