"""The joint encoder and the training step, assembled from components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.errors import PluginError, SettingsError
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.model.contract import Checked, graph_problem, output_problem, require_contract, views_problem
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
    needs_layers,
)
from esmgn_core.settings import CacheTable, ComponentSettings, LengthTable
from esmgn_core.spec import ComponentSpec, Kind

_SEQUENCE = ("residue_type", "chain_index", "ptr")
"""The columns of a batch that a sequence encoder reads."""


class _Unread(nn.Module):
    output_dim = 0

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, *_: object) -> Encoding:
        raise PluginError(
            f"the fuser calls a {self.kind.long_name}, which it does not declare",
            "add it to ComponentSpec(..., encoders=...)",
        )


def unread(kind: Kind) -> Any:
    """A module without tensors for an encoder that the fuser does not read; calling it is an error."""
    return _Unread(kind)


class NoEdges(nn.Module):
    """A graph builder without edges, for runs in which nothing reads the graph."""

    Settings = ComponentSettings
    num_relations = 1

    def __call__(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch, without edges."""
        return ResidueGraph.from_relations([batch.ptr.new_empty((2, 0))])


class JointEncoder(nn.Module):
    """A sequence encoder, a structure encoder and the fuser that combines them.

    Tensors are named ``sequence.*``, ``structure.*`` and ``fuser.*``. An encoder that the fuser does not read
    is an :func:`unread` one.

    Args:
        sequence: the sequence encoder.
        structure: the structure encoder.
        fuser: combines them.
        length: how long sequences are read.
        residue_features: additional inputs of the structure encoder, see
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
        self.unchecked: Mapping[Kind, ComponentSpec] = {}
        """Declarations of its components, until the first pass has checked what they return."""

    def freeze_sequence(self) -> Self:
        """Exclude the sequence encoder from training: no gradients, permanent evaluation mode."""
        self.sequence_frozen = True
        self.get_submodule("sequence").requires_grad_(requires_grad=False).eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all parts; a frozen sequence encoder stays in evaluation mode."""
        super().train(mode)
        if self.sequence_frozen:
            self.get_submodule("sequence").eval()
        return self

    def prepare(self, batch: ProteinBatch) -> ProteinBatch:
        """Apply the length policy to a batch; call this before views or edges are computed.

        Raises:
            RunError: a sequence is longer than ``length.max_residues``, with ``length.policy = error``.
        """
        return self.length.prepare(batch)

    def reader(self, batch: ProteinBatch) -> SequenceEncoder:
        """The sequence encoder for the views of a batch, with windows and cache if they are configured."""
        reading = self.length.reading(self.sequence)
        return self.features.on(reading, batch) if self.features else reading

    def keep_features(self, settings: CacheTable, *, precision: torch.dtype | None = None) -> FeatureCache:
        """Cache the outputs of the frozen sequence encoder for whole proteins.

        Args:
            settings: the table ``[cache]``.
            precision: autocast dtype of the encoder.

        Raises:
            SettingsError: the sequence encoder is not frozen.
        """
        if Kind.SEQ in needs_layers(self.fuser):
            raise SettingsError(
                "cache.features keeps the output of a sequence encoder, and this fuser changes its blocks",
                "switch it off: --set cache.features=off",
            )
        if isinstance(self.sequence, _Unread):
            raise SettingsError(
                "cache.features keeps the output of a sequence encoder, and this run has none",
                "switch it off: --set cache.features=off",
            )
        if not self.sequence_frozen:
            raise SettingsError(
                "cache.features needs a frozen sequence encoder",
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
            sequence: replaces the sequence encoder, for example by its :class:`SequenceOnce`, unless the
                fuser runs its blocks.
        """
        structure = self.structure
        if self.residue_features:
            structure = WithInputs(structure, self.residue_features)
        if Kind.SEQ in needs_layers(self.fuser):
            sequence = self.sequence
        sequence = sequence or self.reader(batch)
        if not self.unchecked:
            return self.fuser(batch, graph, sequence, structure)
        specs = self.unchecked
        encoders = Checked(sequence, specs.get(Kind.SEQ)), Checked(structure, specs.get(Kind.STRUCT))
        encoding = Checked(self.fuser, specs.get(Kind.FUSE))(batch, graph, *encoders)
        self.unchecked = {}
        return encoding


class SequenceOnce(EncoderWrapper):
    """A sequence encoder that encodes views with the same sequence once.

    Views have the same sequence if they hold the same tensor objects of residue types, chains and offsets, as
    copies of a batch with other coordinates do. Values are not compared, which would cost a synchronisation.
    """

    def __init__(self, encoder: SequenceEncoder) -> None:
        super().__init__(encoder)
        self._known: list[tuple[ProteinBatch, Encoding]] = []

    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Encode the batch, or return the encoding of an earlier one with the same sequence."""
        for known, encoding in self._known:
            if all(getattr(known, name) is getattr(batch, name) for name in _SEQUENCE):
                return encoding
        computed: Encoding = self._encoder(batch)
        self._known.append((batch, computed))
        return computed


class TrainStep(nn.Module):
    """Encoder, task and graph builder as one module from a batch to its loss, which DDP wraps.

    Args:
        encoder: the joint encoder.
        task: a task with its heads.
        build_graph: computes the edges of a view.
        precision: autocast dtype of encoder and heads; ``None`` for float32. Geometry is always float32.
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
        self.unchecked: Mapping[Kind, ComponentSpec] = {}
        """Declarations of graph builder and task, until the first pass has checked what they return."""

    @property
    def downstream(self) -> DownstreamTask | None:
        """The task, if it learns from labels."""
        return self.task if isinstance(self.task, DownstreamTask) else None

    def forward(self, batch: ProteinBatch, draws: Draws) -> TaskOutput:
        """Loss and metrics of the batch; ``draws`` are the random streams of its proteins."""
        views, encodings = self._encoded(batch, draws)
        with self._autocast(batch):
            output = self.task.loss(views, encodings)
        if self.unchecked:
            require_contract(self._task_spec(), output_problem(output))
            self.unchecked = {}
        return output

    @torch.no_grad()
    def predict(self, task: DownstreamTask, batch: ProteinBatch, draws: Draws) -> tuple[TaskOutput, Tensor]:
        """Loss and predictions float32 [P, T] of a downstream ``task``, from one pass of the encoder."""
        views, encodings = self._encoded(batch, draws)
        with self._autocast(batch):
            output = task.loss(views, encodings)
            return output, task.predict(encodings[0], views[0].batch).float()

    def _encoded(self, batch: ProteinBatch, draws: Draws) -> tuple[tuple[View, ...], list[Encoding]]:
        with torch.no_grad():
            prepared = self.encoder.prepare(batch)
            views = self.task.views(prepared, self.build_graph, draws)
            if self.unchecked:
                self._check_views(views)
        with self._autocast(batch):
            sequence = SequenceOnce(self.encoder.reader(prepared))
            return views, [self.encoder(view.batch, view.graph, sequence) for view in views]

    def _task_spec(self) -> ComponentSpec | None:
        return self.unchecked.get(Kind.DOWNSTREAM) or self.unchecked.get(Kind.PRETEXT)

    def _check_views(self, views: tuple[View, ...]) -> None:
        require_contract(self._task_spec(), views_problem(views))
        for view in views:
            problem = graph_problem(view.graph, view.batch, self.build_graph.num_relations)
            require_contract(self.unchecked.get(Kind.GRAPH), problem)

    def _autocast(self, batch: ProteinBatch) -> torch.autocast:
        return torch.autocast(batch.ptr.device.type, self.precision, enabled=self.precision is not None)
