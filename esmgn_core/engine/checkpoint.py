"""Save and load the best encoder, and the state for resuming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.engine.checkpoint_files import (
    empty,
    failing_together,
    fresh_folder,
    keep,
    newest_intact_checkpoint,
    put_in_place,
)
from esmgn_core.engine.distributed import World
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.lora import merge_adapters, split_adapters
from esmgn_core.engine.selection import Selection
from esmgn_core.engine.sharding import (
    fill_shards,
    is_sharded,
    load_shards,
    save_shards,
    whole_state,
)
from esmgn_core.errors import RunError, WeightsError
from esmgn_core.machine.files import write_errors, written_atomically
from esmgn_core.model.joint import JointEncoder, TrainStep
from esmgn_core.model.tensors import SEQUENCE, fill_encoder, load_weights, write_tensors
from esmgn_core.protocols import weights_sha256
from esmgn_core.run_folder import RunFolder

_MODEL = "model.safetensors"
_SHARDS = "shards"
_STATE = "state.pt"


@dataclass(slots=True)
class RunProgress:
    """Progress of a run.

    Attributes:
        step: completed optimiser steps.
        best_step: step of the best encoder, 0 before the first one.
        best_value: the value that selected it; lower is better. Validation loss, training loss without
            validation proteins, or minus the deciding score of a downstream task.
        pieces: passes are split into this many smaller ones to fit into memory.
    """

    step: int = 0
    best_step: int = 0
    best_value: float = float("inf")
    pieces: int = 1


def encoder_tensors(encoder: JointEncoder, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Tensors of the encoder for ``model.safetensors``, by name, on the CPU.

    A frozen sequence encoder with published weights is left out, because the run's configuration names its
    file. Adapters are merged into the weights.

    Args:
        encoder: the encoder.
        state: the gathered state of a sharded encoder.
    """
    return _separate(encoder, merge_adapters(encoder, state))


def _separate(encoder: JointEncoder, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    skip = SEQUENCE if _in_weights_file(encoder) else None
    seen: set[tuple[int, torch.Size]] = set()
    tensors = {}
    for name, tensor in state.items():
        if skip and name.startswith(skip):
            continue
        place = (tensor.data_ptr(), tensor.shape)
        # safetensors refuses tensors that share memory, so tied weights are written twice.
        tensors[name] = tensor.clone() if place in seen else tensor.cpu().contiguous()
        seen.add(place)
    return tensors


def _in_weights_file(encoder: JointEncoder) -> bool:
    return encoder.sequence_frozen and weights_sha256(encoder.sequence) is not None


def load_best(run: RunFolder, step: TrainStep) -> None:
    """Load the best encoder and heads of the run.

    Raises:
        WeightsError: a file is missing or damaged, or does not fit.
    """
    tensors = split_adapters(step.encoder, load_weights(run.model))
    if is_sharded(step):
        fill_shards(step.encoder, tensors)
        fill_shards(_task(step), load_weights(run.task))
        return
    fill_encoder(step.encoder, tensors, origin=str(run.model))
    load_task(run, _task(step))


def load_task(run: RunFolder, task: nn.Module) -> None:
    """Load the heads of a downstream task from a run's ``task.safetensors``.

    Raises:
        WeightsError: the file is missing or damaged, or belongs to another task.
    """
    try:
        task.load_state_dict(load_weights(run.task))
    except RuntimeError as error:
        raise WeightsError(f"{run.task} does not fit the task: {error}") from error


def save_best(run: RunFolder, step: TrainStep, selection: Selection, world: World) -> None:
    """Write the encoder to ``model.safetensors`` and the task to ``task.safetensors``.

    All processes must call this.

    Args:
        run: the run folder.
        step: encoder and task.
        selection: step and selecting value; recorded in both files.
        world: this process among all.

    Raises:
        CheckpointError: the files cannot be written; earlier files are unchanged.
    """
    sharded = is_sharded(step)
    state = whole_state(step.encoder) if sharded else None
    task = whole_state(_task(step)) if sharded else _task(step).state_dict()
    with failing_together(world, run):
        if world.is_main:
            metadata = selection.metadata()
            heads = {name: tensor.cpu().contiguous() for name, tensor in task.items()}
            # Write both before replacing either, because the heads fit only their own encoder.
            with written_atomically(run.task) as task_file, written_atomically(run.model) as model_file:
                write_tensors(heads, task_file, metadata)
                write_tensors(encoder_tensors(step.encoder, state), model_file, metadata)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Writes and reads the checkpoints for resuming; all processes must call its methods.

    Attributes:
        run: the run folder.
        learner: encoder and task with their optimiser.
        world: this process among all.
        keep_every: steps between checkpoints that are kept permanently.
    """

    run: RunFolder
    learner: Learner
    world: World
    keep_every: int | None = None

    def save(self, progress: RunProgress) -> None:
        """Write a checkpoint and make it ``last/``.

        Raises:
            CheckpointError: the checkpoint cannot be written; earlier ones are unchanged.
        """
        folder, sharded = fresh_folder(self.run), is_sharded(self.learner.step)
        # Three blocks, since each ends with a synchronisation: the folder must exist before any process
        # writes its shards, and all shards must be complete before the main process verifies them.
        with failing_together(self.world, self.run):
            if self.world.is_main:
                empty(folder)
        with failing_together(self.world, self.run):
            if sharded:
                save_shards(folder / _SHARDS, self.learner, left_out=self._in_file())
        with failing_together(self.world, self.run):
            if self.world.is_main:
                self._write(folder, progress, sharded=sharded)
                put_in_place(self.run)
                self._keep(progress.step, self.run.last)

    def _write(self, folder: Path, progress: RunProgress, *, sharded: bool) -> None:
        step = self.learner.step
        state = {"progress": asdict(progress), "learner": self.learner.state_dict()}
        if not sharded:
            tensors = _separate(step.encoder, step.encoder.state_dict())
            write_tensors(tensors, folder / _MODEL, {"step": str(progress.step)})
            state["task"] = _task(step).state_dict()
            state["optimizer"] = self.learner.optimizer.state_dict()
            state["averages"] = self.learner.averages()
        torch.save(state, folder / _STATE)

    def load(self) -> tuple[RunProgress, str]:
        """Restore the learner from the newest intact checkpoint.

        Returns:
            The progress, and a notice about damaged checkpoints.

        Raises:
            RunError: the run has no checkpoint, or all are damaged.
            WeightsError: the tensors do not fit the model.
        """
        folder, remark = self.world.on_main(lambda: newest_intact_checkpoint(self.run))
        try:
            state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        except Exception as error:
            # On a damaged file, torch.load raises almost any type of error.
            raise RunError(
                f"cannot resume from {folder / _STATE}: {error}", "the checkpoint is damaged"
            ) from error
        self.learner.load_state_dict(state["learner"])
        if (folder / _SHARDS).is_dir():
            begun = state["progress"]["step"] > 0
            load_shards(folder / _SHARDS, self.learner, left_out=self._in_file(), begun=begun)
        else:
            self._read(folder, state)
        progress = RunProgress(**state["progress"])
        # The run may have been killed after this checkpoint was written and before it was kept.
        self.world.on_main(lambda: self._keep(progress.step, folder))
        return progress, remark

    def _keep(self, step: int, checkpoint: Path) -> None:
        if self.keep_every and step and step % self.keep_every == 0:
            with write_errors(self.run.kept):
                keep(self.run, step, checkpoint)

    def _read(self, folder: Path, state: Mapping[str, Any]) -> None:
        step = self.learner.step
        if is_sharded(step):
            raise RunError(
                f"{folder} was not written with train.strategy=fsdp", "resume it with train.strategy=ddp"
            )
        fill_encoder(step.encoder, load_weights(folder / _MODEL), origin=str(folder / _MODEL))
        _task(step).load_state_dict(state["task"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self.learner.load_state_dict(state["learner"])
        self.learner.load_averages(state["averages"])

    def _in_file(self) -> str | None:
        return f"encoder.{SEQUENCE}" if _in_weights_file(self.learner.step.encoder) else None


def _task(step: TrainStep) -> nn.Module:
    return step.get_submodule("task")
