"""Checkpoints: the best encoder for use, the last state for resuming.

A checkpoint folder is written beside its place and moved there when it is complete, so that a
crash at any moment leaves a whole one behind.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esmgn_core.engine.learner import Learner
from esmgn_core.engine.lora import beside_adapters, merged
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import RunError, WeightsError
from esmgn_core.model import JointEncoder, TrainStep

_MODEL = "model.safetensors"
_SEQUENCE = "sequence."
_STATE = "state.pt"


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps taken.
        best_step: step of the best encoder, 0 if none was written yet.
        best_value: what chose it, lower is better: its held-out loss, its training loss where nothing is
            held out, or minus the deciding score of a downstream task.
        pieces: how finely passes are cut, for want of memory.
    """

    step: int = 0
    best_step: int = 0
    best_value: float = float("inf")
    pieces: int = 1


def encoder_tensors(encoder: JointEncoder) -> dict[str, Tensor]:
    """Tensors of the encoder that training changed or that no file holds, by name, on the CPU.

    A frozen sequence encoder that came from a weights file is left out: the run's configuration
    names the file. Adapters are added to the weights they stand beside.
    """
    return _separate(encoder, merged(encoder))


def _raw_tensors(encoder: JointEncoder) -> dict[str, Tensor]:
    """As :func:`encoder_tensors`, with adapters as tensors of their own."""
    return _separate(encoder, encoder.state_dict())


def _separate(encoder: JointEncoder, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    skip = _SEQUENCE if _in_weights_file(encoder) else None
    seen: set[tuple[int, torch.Size]] = set()
    tensors = {}
    for name, tensor in state.items():
        if skip and name.startswith(skip):
            continue
        place = (tensor.data_ptr(), tensor.shape)
        # safetensors refuses tensors that share memory; tied weights are written twice.
        tensors[name] = tensor.clone() if place in seen else tensor.cpu().contiguous()
        seen.add(place)
    return tensors


def _in_weights_file(encoder: JointEncoder) -> bool:
    return encoder.sequence_frozen and getattr(encoder.sequence, "weights_sha256", None) is not None


def load_encoder(encoder: JointEncoder, path: Path) -> None:
    """Fill the encoder from a ``model.safetensors``.

    Raises:
        WeightsError: the file is missing or damaged, or its tensors do not fit; the first
            differences are named.
    """
    fill_encoder(encoder, load_weights(path), origin=str(path))


def fill_encoder(encoder: JointEncoder, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Fill the encoder with tensors by its names.

    Those of a sequence encoder that came from a weights file may be missing. Where they are given
    and differ from that file's, the encoder no longer counts as one that came from it.

    Raises:
        WeightsError: the tensors do not fit; the first differences are named.
    """
    expected = encoder.state_dict()
    given = any(name.startswith(_SEQUENCE) for name in tensors)
    from_file = getattr(encoder.sequence, "weights_sha256", None) is not None
    if from_file and not given:
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(_SEQUENCE)}
    problems = [f"missing: {name}" for name in expected.keys() - tensors.keys()]
    problems += [f"unexpected: {name}" for name in tensors.keys() - expected.keys()]
    problems += [
        f"shape of {name}: {list(tensors[name].shape)} in the file, {list(tensor.shape)} in the model"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        more = [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
        raise WeightsError(f"{origin} does not fit the model", *sorted(problems)[:5], *more)
    if from_file and not _same_sequence(expected, tensors):
        encoder.sequence.weights_sha256 = None  # type: ignore[attr-defined]  # it has one: from_file
    encoder.load_state_dict(tensors, strict=False)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error


def _same_sequence(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    names = [name for name in expected if name.startswith(_SEQUENCE)]
    return all(torch.equal(expected[name].cpu(), tensors[name]) for name in names)


def save_best(run: RunFolder, encoder: JointEncoder, metadata: dict[str, str]) -> None:
    """Write the encoder to ``model.safetensors``."""
    _write_beside(run.model, encoder_tensors(encoder), metadata)


def save_task(run: RunFolder, step: TrainStep, metadata: dict[str, str]) -> None:
    """Write heads and buffers of the task to ``task.safetensors``."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _task(step).state_dict().items()}
    _write_beside(run.task, tensors, metadata)


def load_best(run: RunFolder, step: TrainStep) -> None:
    """Fill encoder and task with the best ones of their run.

    Raises:
        WeightsError: a file is missing or damaged, or does not fit.
    """
    fill_encoder(step.encoder, beside_adapters(step.encoder, load_weights(run.model)), origin=str(run.model))
    load_task(run, _task(step))


def load_task(run: RunFolder, task: nn.Module) -> None:
    """Fill a downstream task from a run's ``task.safetensors``.

    Raises:
        WeightsError: the file is missing or damaged, or is of another task.
    """
    try:
        task.load_state_dict(load_weights(run.task))
    except RuntimeError as error:
        raise WeightsError(f"{run.task} does not fit the task: {error}") from error


def _write_beside(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_name(f".{path.name}")
    write_tensors(tensors, temporary, metadata)
    temporary.replace(path)


def save_last(run: RunFolder, learner: Learner, progress: Progress) -> None:
    """Write everything a resume needs to ``last/``."""
    fresh, old = run.path / ".last.new", run.path / ".last.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    write_tensors(_raw_tensors(learner.step.encoder), fresh / _MODEL, {"step": str(progress.step)})
    state = {
        "progress": asdict(progress),
        "task": _task(learner.step).state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "learner": learner.state_dict(),
    }
    torch.save(state, fresh / _STATE)
    shutil.rmtree(old, ignore_errors=True)
    if run.last.exists():
        run.last.rename(old)
    fresh.rename(run.last)
    shutil.rmtree(old, ignore_errors=True)


def load_last(run: RunFolder, learner: Learner) -> Progress:
    """Put a run back where its last checkpoint left it.

    Raises:
        RunError: there is no checkpoint, or it is damaged.
        WeightsError: its tensors do not fit the model.
    """
    folder = _last_complete(run)
    load_encoder(learner.step.encoder, folder / _MODEL)
    try:
        state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        _task(learner.step).load_state_dict(state["task"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.load_state_dict(state["learner"])
        return Progress(**state["progress"])
    except Exception as error:
        # torch.load raises what its unpickler meets in a damaged file: almost anything.
        raise RunError(
            f"cannot resume from {folder / _STATE}: {error}", "the checkpoint is damaged"
        ) from error


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a ``.safetensors`` file."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    # safetensors writes files that only their owner may read.
    path.chmod(mode)


def _last_complete(run: RunFolder) -> Path:
    # Between the two renames of save_last only the old and the new folder exist.
    for folder in (run.last, run.path / ".last.old"):
        if folder.is_dir():
            return folder
    raise RunError(
        f"nothing to resume in {run.path}: no checkpoint was written yet",
        f"start again: esmgn run {run.config} --out NEW_FOLDER",
    )


def _task(step: TrainStep) -> nn.Module:
    return step.get_submodule("task")
