"""The joint encoder and one training step, both assembled from components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.errors import SettingsError
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.model.feature_cache import FeatureCache
from esmgn_core.model.inputs import WithInputs
from esmgn_core.model.length import LengthPolicy
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import (
    DownstreamTask,
    Fuser,
    GraphBuilder,
    PretextTask,
    SequenceEncoder,
    StructureEncoder,
    joins_chains,
)
from esmgn_core.settings import CacheTable, LengthTable

_SEQUENCE = ("residue_type", "chain_index", "ptr")
"""What a sequence encoder reads of a batch."""


class JointEncoder(nn.Module):
    """A sequence encoder, a structure encoder and the fuser that wires them.

    Tensors are named ``sequence.*``, ``structure.*`` and ``fuser.*``.

    Args:
        sequence: the sequence encoder.
        structure: the structure encoder.
        fuser: wires them.
        length: what happens to long sequences.
        residue_features: names of features that the structure encoder takes besides, see
            :func:`esmgn_core.model.inputs.residue_inputs`.
    """

    sequence: SequenceEncoder
    structure: StructureEncoder
    fuser: Fuser

    def __init__(
        self,
        sequence: SequenceEncoder,
        structure: StructureEncoder,
        fuser: Fuser,
        length: LengthTable = LengthTable(),  # noqa: B008 - frozen
        residue_features: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.length = LengthPolicy(length, joins_chains=joins_chains(sequence))
        self.sequence = sequence
        self.structure = structure
        self.fuser = fuser
        self.residue_features = tuple(residue_features)
        self.output_dim = fuser.output_dim
        self.sequence_frozen = False
        self.features: FeatureCache | None = None

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

    def prepare(self, batch: ProteinBatch) -> ProteinBatch:
        """The batch as far as it is to be encoded; call it before views or edges are made of it.

        Raises:
            RunError: a sequence is longer than the settings allow.
        """
        return self.length.prepare(batch)

    def reader(self, batch: ProteinBatch) -> SequenceEncoder:
        """The sequence encoder of the views of a batch: in windows, and from the cache, if so set."""
        reading = self.length.reading(self.sequence)
        return self.features.on(reading, batch) if self.features else reading

    def keep_features(self, settings: CacheTable, *, precision: torch.dtype | None = None) -> FeatureCache:
        """Compute the outputs of the frozen sequence encoder once for each whole protein, from now on.

        Args:
            settings: where and how.
            precision: autocast dtype that the encoder runs under.

        Raises:
            SettingsError: the sequence encoder is not frozen.
        """
        if not self.sequence_frozen:
            raise SettingsError(
                "cache.features needs a sequence encoder that does not change",
                "freeze it: --set optim.seq_lr_scale=0",
            )
        windows = self.length.settings if self.length.settings.policy == "window" else ""
        self.features = FeatureCache.of(
            self.get_submodule("sequence"), settings, computed_in=precision, reading=str(windows)
        )
        return self.features

    def forward(
        self, batch: ProteinBatch, graph: ResidueGraph, sequence: SequenceEncoder | None = None
    ) -> Encoding:
        """The joint encoding: residue [N, output_dim] and protein [B, output_dim].

        Args:
            batch: N residues of B proteins.
            graph: the residue graph of the batch.
            sequence: used in place of the sequence encoder, such as a :class:`SequenceOnce` of it.
        """
        structure = self.structure
        if self.residue_features:
            structure = WithInputs(structure, self.residue_features)
        return self.fuser(batch, graph, sequence or self.reader(batch), structure)


class SequenceOnce(EncoderWrapper):
    """A sequence encoder for several views: those that share their sequence share its encoding.

    Views share it if they hold the same tensors of residue types, chains and offsets, as copies of
    one batch with other coordinates do; equal tensors are not looked for.
    """

    def __init__(self, encoder: SequenceEncoder) -> None:
        super().__init__(encoder)
        self._known: list[tuple[ProteinBatch, Encoding]] = []

    def __call__(self, batch: ProteinBatch) -> Encoding:
        """The encoding of the batch, or of an earlier one with the same sequence."""
        for known, encoding in self._known:
            if all(getattr(known, name) is getattr(batch, name) for name in _SEQUENCE):
                return encoding
        computed: Encoding = self._encoder(batch)
        self._known.append((batch, computed))
        return computed


class TrainStep(nn.Module):
    """Everything between a batch and its loss, as the one module that DDP wraps.

    Args:
        encoder: the joint encoder.
        task: a task with its heads.
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

    @property
    def downstream(self) -> DownstreamTask | None:
        """The task, if it learns from labels."""
        return self.task if isinstance(self.task, DownstreamTask) else None

    def forward(self, batch: ProteinBatch, draws: Draws) -> TaskOutput:
        """Loss and metrics of the batch under the given draws."""
        views, encodings = self._encoded(batch, draws)
        with self._autocast(batch):
            return self.task.loss(views, encodings)

    @torch.no_grad()
    def predict(self, task: DownstreamTask, batch: ProteinBatch, draws: Draws) -> tuple[TaskOutput, Tensor]:
        """Loss, and predictions float32 [P, T], of a downstream ``task``, from one pass of the encoder."""
        views, encodings = self._encoded(batch, draws)
        with self._autocast(batch):
            output = task.loss(views, encodings)
            return output, task.predict(encodings[0], views[0].batch).float()

    def _encoded(self, batch: ProteinBatch, draws: Draws) -> tuple[tuple[View, ...], list[Encoding]]:
        with torch.no_grad():
            prepared = self.encoder.prepare(batch)
            views = self.task.views(prepared, self.build_graph, draws)
        with self._autocast(batch):
            sequence = SequenceOnce(self.encoder.reader(prepared))
            return views, [self.encoder(view.batch, view.graph, sequence) for view in views]

    def _autocast(self, batch: ProteinBatch) -> torch.autocast:
        return torch.autocast(batch.ptr.device.type, self.precision, enabled=self.precision is not None)
