"""Build and join the components of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from esmgn_core.errors import PluginError, SettingsError
from esmgn_core.host.components import build_component, random_weights
from esmgn_core.host.configure import component_settings
from esmgn_core.host.registry import Registry
from esmgn_core.layers import LayerSizes
from esmgn_core.model.inputs import check_features, inputs_dim
from esmgn_core.model.joint import JointEncoder, NoEdges, TrainStep, unread
from esmgn_core.protocols import (
    DownstreamTask,
    GraphBuilder,
    HasResidueFeatures,
    LabeledDataset,
    LayeredEncoder,
    LayeredStructure,
    PretextTask,
    ProteinDataset,
    SizesStructureInput,
    declared,
    needs_layers,
)
from esmgn_core.settings import ComponentSettings, ComponentTable, RunConfig
from esmgn_core.spec import ComponentSpec, Kind

_LAYERED: Mapping[Kind, type] = {Kind.SEQ: LayeredEncoder, Kind.STRUCT: LayeredStructure}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A validated configuration: declaration, class and settings of every component, none built yet."""

    config: RunConfig
    parts: dict[Kind, tuple[ComponentSpec, type, ComponentSettings]]

    def build(self, kind: Kind, **context: Any) -> Any:
        """Build the component of one kind.

        Raises:
            PluginError: the component does not accept ``context``, or lacks members of its contract.
        """
        spec, component, settings = self.parts[kind]
        return build_component(spec, component, settings, **context)

    def encoder(self) -> JointEncoder:
        """Build the sequence encoder, structure encoder and fuser, initialised from the run's seed."""
        torch.manual_seed(self.config.train.seed)
        sequence = self.build(Kind.SEQ) if Kind.SEQ in self.parts else unread(Kind.SEQ)
        structure = unread(Kind.STRUCT)
        residue_features = self.config.inputs.residue
        if Kind.STRUCT in self.parts:
            structure = self.build(
                Kind.STRUCT,
                input_dim=self._structure_input_dim(sequence.output_dim) + inputs_dim(residue_features),
                num_relations=self.graph().num_relations,
            )
        elif residue_features:
            raise SettingsError(
                "inputs.residue is read by a structure encoder, and this run has none",
                "choose a fuser with one, or leave it out: --set 'inputs.residue=[]'",
            )
        layers = self._layer_sizes({Kind.SEQ: sequence, Kind.STRUCT: structure})
        fuser = self.build(
            Kind.FUSE,
            sequence_dim=sequence.output_dim,
            structure_dim=structure.output_dim,
            **({"layers": layers} if layers else {}),
        )
        encoder = JointEncoder(sequence, structure, fuser, self.config.length, residue_features)
        encoder.unchecked = {kind: spec for kind, (spec, _, _) in self.parts.items()}
        if self.config.optim.seq_lr_scale == 0:
            encoder.freeze_sequence()
        return encoder

    def with_random_weights(self) -> Blueprint:
        """The same blueprint with random weights of the sequence encoder, where its settings allow it."""
        changes = random_weights(type(self.parts[Kind.SEQ][2])) if Kind.SEQ in self.parts else {}
        return self.with_sequence_settings(**changes) if changes else self

    def _structure_input_dim(self, sequence_dim: int) -> int:
        # A method of the class: the fuser can only be built after both encoders, from their widths.
        spec, fuser, _ = self.parts[Kind.FUSE]
        if not isinstance(fuser, SizesStructureInput):
            raise PluginError(
                f"{spec} lacks: structure_input_dim", "the contracts are in esmgn_core.protocols"
            )
        return fuser.structure_input_dim(sequence_dim)

    def _layer_sizes(self, encoders: Mapping[Kind, Any]) -> dict[Kind, LayerSizes]:
        """Sizes of the encoders that the fuser runs layer by layer.

        Raises:
            SettingsError: an encoder has no layers to run, or sequences would be read in windows.
        """
        spec, fuser, _ = self.parts[Kind.FUSE]
        kinds = needs_layers(fuser)
        for kind in kinds:
            if not isinstance(encoders[kind], _LAYERED[kind]):
                raise SettingsError(
                    f"the fuser '{spec.name}' runs the layers of a {kind.long_name}, and "
                    f"'{self.parts[kind][0].name}' does not offer them",
                    f"choose another, see: esmgn list {kind}; esmgn list fuse names encoders that fit",
                )
        if Kind.SEQ in kinds and self.config.length.policy == "window":
            raise SettingsError(
                f"the fuser '{spec.name}' needs whole sequences, and length.policy is window",
                "choose another: --set length.policy=full",
            )
        return {kind: encoders[kind].layer_sizes() for kind in kinds}

    def graph(self) -> GraphBuilder:
        """Build the graph builder; one without edges if nothing reads the graph."""
        builder: GraphBuilder = self.build(Kind.GRAPH) if Kind.GRAPH in self.parts else NoEdges()
        return builder

    def task(self, encoder_dim: int) -> PretextTask:
        """Build the pretext task with its heads."""
        task: PretextTask = self.build(Kind.PRETEXT, encoder_dim=encoder_dim)
        return task

    @property
    def is_downstream(self) -> bool:
        """True if the run's task learns from labels."""
        return Kind.DOWNSTREAM in self.parts

    def downstream_task(self, encoder_dim: int, dataset: ProteinDataset) -> DownstreamTask:
        """Build the downstream task with its heads, for the labels of a dataset.

        Raises:
            SettingsError: the dataset has no labels, or labels that do not fit the task.
        """
        name, data = self.config.task.name, self.config.data.name
        if not isinstance(dataset, LabeledDataset):
            raise SettingsError(
                f"the downstream task '{name}' needs labels, and the dataset '{data}' has none",
                "choose a labelled dataset: --data NAME; see: esmgn list data",
            )
        task: DownstreamTask = self.build(
            Kind.DOWNSTREAM, encoder_dim=encoder_dim, num_targets=len(dataset.label_names)
        )
        shape = dataset.group_size, dataset.labels(dataset.split("train")[:1]).shape[1]
        if shape != (task.group_size, task.label_dim):
            raise SettingsError(
                f"the dataset '{data}' does not fit the downstream task '{name}'",
                f"'{data}' has {_labels(*shape)}",
                f"'{name}' takes {_labels(task.group_size, task.label_dim)}",
            )
        return task

    def dataset(self) -> ProteinDataset:
        """Build the dataset.

        Raises:
            DataError: the proteins lack a feature in ``inputs.residue``.
        """
        dataset: ProteinDataset = self.build(Kind.DATA)
        available = dataset.residue_features if isinstance(dataset, HasResidueFeatures) else ()
        check_features(self.config.inputs.residue, available)
        return dataset

    def step(self, dataset: ProteinDataset | None, *, precision: torch.dtype | None = None) -> TrainStep:
        """Build encoder, task and graph builder on torch's current default device.

        Under ``torch.device("meta")`` this checks that all widths fit without allocating memory.

        Args:
            dataset: data with the labels for a downstream task; ``None`` for a pretext task.
            precision: autocast dtype, ``None`` for float32.

        Raises:
            PluginError, SettingsError: the components do not fit each other, or the labels.
        """
        encoder = self.encoder()
        if self.is_downstream and dataset is not None:
            task: PretextTask = self.downstream_task(encoder.output_dim, dataset)
        else:
            task = self.task(encoder.output_dim)
        step = TrainStep(encoder, task, self.graph(), precision=precision)
        step.unchecked = encoder.unchecked
        return step

    def with_sequence_settings(self, **changes: Any) -> Blueprint:
        """The same blueprint with changed settings of the sequence encoder."""
        spec, component, settings = self.parts[Kind.SEQ]
        changed = spec, component, settings.model_copy(update=changes)
        return Blueprint(self.config, {**self.parts, Kind.SEQ: changed})

    def resolved(self) -> RunConfig:
        """The configuration with all settings of all components, defaults included."""
        tables = {
            kind.value: ComponentTable(
                name=getattr(self.config, kind.value).name,
                component=spec.name,
                **settings.model_dump(mode="json", exclude_none=True),
            )
            for kind, (spec, _, settings) in self.parts.items()
        }
        return self.config.model_copy(update=tables)


def resolve(registry: Registry, config: RunConfig) -> Blueprint:
    """Load the classes of a configuration's components and validate their settings.

    Without a structure encoder, the graph builder is left out unless the task reads the graph.

    Raises:
        UnknownComponentError, PluginError, SettingsError: see :mod:`esmgn_core.host.configure`.
    """
    parts = {kind: component_settings(registry, kind, config) for kind in config.kinds}
    task = parts.get(Kind.DOWNSTREAM) or parts[Kind.PRETEXT]
    if Kind.STRUCT not in parts and not declared(task[1], "reads_graph", default=True):
        parts.pop(Kind.GRAPH, None)
        config = config.model_copy(update={Kind.GRAPH.value: None})
    return Blueprint(config, parts)


def _labels(group_size: int, label_dim: int) -> str:
    numbers = f"{label_dim} number{'s' if label_dim > 1 else ''}"
    return f"a label of {numbers} for each {'pair' if group_size == 2 else 'protein'}"
