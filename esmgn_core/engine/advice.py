"""What works, but is seldom meant: warnings before a run."""

from __future__ import annotations

from typing import Any

from torch import nn

from esmgn_core.engine.schedule import Schedule
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.joint import TrainStep
from esmgn_core.settings import TrainTable
from esmgn_core.spec import Kind

FEWEST_PROTEINS = 4
"""Proteins below which the statistics of a batch normalisation are mostly noise."""
_STEPS_LOOKED_AT = 200


def component_warnings(blueprint: Blueprint) -> list[str]:
    """One text for each pair of components that work together, but hardly as meant.

    A structure encoder may declare ``resolves_residues = False`` (all residues of a protein have one
    representation) and ``reads_graph = False`` (it draws edges of its own); a task ``predicts_residues =
    True`` and ``removes_edges = True``.
    """
    struct = blueprint.parts[Kind.STRUCT]
    kind = Kind.DOWNSTREAM if blueprint.is_downstream else Kind.PRETEXT
    task = blueprint.parts[kind]
    encoder: Any = struct[1]
    names = f"struct '{struct[0].name}' with {kind} '{task[0].name}'"
    found = []
    if not getattr(encoder, "resolves_residues", True) and _declares(task[1], "predicts_residues"):
        found.append(
            f"{names}: the encoder gives all residues of a protein the same representation, "
            "so the structure has no information on one residue for the task"
        )
    if not getattr(encoder, "reads_graph", True) and _declares(task[1], "removes_edges"):
        found.append(
            f"{names}: the task hides edges of the graph, which the encoder does not read: "
            "it still sees the coordinates that the task asks about"
        )
    return found


def _declares(task: Any, name: str) -> bool:
    """True if the task, or one of those trained together in it, declares the attribute."""
    parts = [part for _, part in getattr(task, "classes", {}).values()]
    return any(getattr(part, name, False) for part in (task, *parts))


def batch_norm_warning(step: TrainStep, schedule: Schedule, train: TrainTable, pieces: int = 1) -> list[str]:
    """A warning if batch normalisation meets fewer than 4 proteins at a time; else none.

    Args:
        step: encoder and task.
        schedule: which proteins each pass takes.
        train: the run's ``[train]`` table; with ``sync_batch_norm`` passes of all processes count together.
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
        hints = f"use train.proteins_per_batch={whole} and train.accumulate=1, which is another training"
    return [
        f"batch normalisation meets only {proteins} at a time{' in each process' * apart}, "
        f"fewer than {FEWEST_PROTEINS}: its statistics are noise, and results differ from those of "
        f"larger passes\n  {hints}" + ("\n  or train.sync_batch_norm=true" if apart else "")
    ]


def fewest_proteins(schedule: Schedule, *, together: bool, pieces: int = 1) -> int:
    """Proteins of the smallest pass among the first 200 steps of an epoch and its last one.

    Args:
        schedule: which proteins each pass takes.
        together: passes that the processes run at the same time count as one.
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
