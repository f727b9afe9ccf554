"""Warnings about valid but unusual settings, before a run."""

from __future__ import annotations

from typing import Any

from torch import nn

from esmgn_core.engine.schedule import Schedule
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import declared
from esmgn_core.settings import TrainTable
from esmgn_core.spec import Kind

FEWEST_PROTEINS = 4
"""Batch statistics over fewer proteins are mostly noise."""
_STEPS_LOOKED_AT = 200


def component_warnings(blueprint: Blueprint) -> list[str]:
    """Warn about pairs of a structure encoder and a task that train without a useful signal.

    A structure encoder may declare ``resolves_residues = False`` (all residues of a protein have the same
    representation) and ``reads_graph = False`` (it computes its own edges). A task may declare
    ``predicts_residues = True`` and ``removes_edges = True``.
    """
    if Kind.STRUCT not in blueprint.parts:
        return []
    struct = blueprint.parts[Kind.STRUCT]
    kind = Kind.DOWNSTREAM if blueprint.is_downstream else Kind.PRETEXT
    task = blueprint.parts[kind]
    encoder: Any = struct[1]
    names = f"struct '{struct[0].name}' with {kind} '{task[0].name}'"
    warnings = []
    if not getattr(encoder, "resolves_residues", True) and declared(task[1], "predicts_residues"):
        warnings.append(
            f"{names}: the encoder gives all residues of a protein the same representation, "
            "so the structure cannot inform predictions about single residues"
        )
    if not getattr(encoder, "reads_graph", True) and declared(task[1], "removes_edges"):
        warnings.append(
            f"{names}: the task removes edges of the graph, but the encoder does not read the graph "
            "and still sees the coordinates to be predicted"
        )
    return warnings


def batch_norm_warning(step: TrainStep, schedule: Schedule, train: TrainTable, pieces: int = 1) -> list[str]:
    """Warn if batch normalisation sees fewer than 4 proteins at a time; returns one warning or none.

    Args:
        step: encoder and task.
        schedule: proteins of each pass.
        train: the run's ``[train]`` table; with ``sync_batch_norm`` the passes of all processes count as one.
        pieces: as for :meth:`Schedule.micro_batches`.
    """
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in step.modules()):
        return []
    together = schedule.world_size > 1 and train.sync_batch_norm
    fewest = fewest_proteins(schedule, together=together, pieces=pieces)
    if fewest >= FEWEST_PROTEINS:
        return []
    proteins = f"{fewest} protein{'s' * (fewest != 1)}"
    apart = schedule.world_size > 1 and not together
    hints = "raise train.proteins_per_batch or train.residues_per_batch"
    if train.accumulate > 1 and train.residues_per_batch is None:
        whole = train.proteins_per_batch * train.accumulate
        hints = f"use train.proteins_per_batch={whole} and train.accumulate=1; this changes the training"
    return [
        f"batch normalisation sees only {proteins} at a time{' in each process' * apart}, "
        f"fewer than {FEWEST_PROTEINS}: its statistics are noise, and results differ from those of "
        f"larger passes\n  {hints}" + ("\n  or train.sync_batch_norm=true" if apart else "")
    ]


def fewest_proteins(schedule: Schedule, *, together: bool, pieces: int = 1) -> int:
    """Number of proteins in the smallest pass of the first 200 steps of an epoch and its last step.

    Args:
        schedule: proteins of each pass.
        together: True if simultaneous passes of all processes count as one.
        pieces: as for :meth:`Schedule.micro_batches`.
    """
    last = schedule.steps_per_epoch - 1
    fewest: list[int] = []
    for step in {*range(min(last, _STEPS_LOOKED_AT)), last}:
        passes = [
            [len(part.indices) for part in schedule.micro_batches(step, rank, pieces)]
            for rank in range(schedule.world_size)
        ]
        fewest += [sum(sizes) if together else min(sizes) for sizes in zip(*passes, strict=True)]
    return min(fewest)
