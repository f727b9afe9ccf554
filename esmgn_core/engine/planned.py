"""A run's model before its weights are read: built without memory, to find what cannot work."""

from __future__ import annotations

import torch

from esmgn_core.compose import Blueprint
from esmgn_core.model import TrainStep
from esmgn_core.protocols import ProteinDataset


def planned_step(blueprint: Blueprint, dataset: ProteinDataset | None) -> TrainStep:
    """Encoder and task on torch's current default device, without published weights.

    Under ``torch.device("meta")`` it takes no memory, and shows that all widths fit each other.

    Args:
        blueprint: the run.
        dataset: its data, whose labels a downstream task is built for; ``None`` for a pretext task.

    Raises:
        PluginError, SettingsError: the components do not fit each other, or the labels not the task.
    """
    blueprint = blueprint.with_random_weights()
    encoder = blueprint.encoder()
    if blueprint.is_downstream and dataset is not None:
        task = blueprint.downstream_task(encoder.output_dim, dataset)
        return TrainStep(encoder, task, blueprint.graph())
    return TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph())


def check_planned(blueprint: Blueprint, dataset: ProteinDataset) -> None:
    """Find, before any download, what would stop a run once its weights are there.

    Raises:
        EsmgnError: as :func:`planned_step`.
    """
    with torch.device("meta"):
        try:
            planned_step(blueprint, dataset)
        except (RuntimeError, NotImplementedError):
            return  # a component that cannot be built without memory; the run itself will build it
