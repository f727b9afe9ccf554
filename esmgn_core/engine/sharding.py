"""Shard weights, gradients and optimiser state over processes (FSDP2), with sharded checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from esmgn_core.engine.distributed import World
from esmgn_core.engine.learner import Learner
from esmgn_core.model.blocks import repeated_blocks
from esmgn_core.model.joint import TrainStep


def shard(step: TrainStep, world: World) -> None:
    """Shard the parameters of a step: each block of the sequence encoder separately, then the rest."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in repeated_blocks(step.encoder.get_submodule("sequence")):
        fully_shard(block, mesh=mesh)
    fully_shard(step, mesh=mesh)
    register_fsdp_forward_method(step, "predict")


def is_sharded(module: nn.Module) -> bool:
    """True if :func:`shard` was applied."""
    return isinstance(module, FSDPModule)


def synchronize_gradients(step: nn.Module, *, wanted: bool) -> None:
    """Let the next backward pass sum gradients over processes, or only accumulate them locally."""
    if isinstance(step, FSDPModule):
        step.set_requires_gradient_sync(wanted)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Gather the whole state on the CPU of the main process; empty on others. All processes must call it."""
    with _quiet():
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Tensor] = get_model_state_dict(module, options=options)  # type: ignore[assignment]  # torch
        return state


def fill_shards(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a sharded module; every process takes its shards."""
    with _quiet():
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(module, dict(tensors), options=options)


def save_shards(folder: Path, learner: Learner, *, left_out: str | None) -> None:
    """Write weights and optimiser state; every process writes its shards.

    Args:
        folder: folder of the shards.
        learner: the learner to save.
        left_out: prefix of weights that are left out, because a file of weights has them.
    """
    with _quiet():
        save(_state(learner, left_out, begun=bool(learner.optimizer.state)), checkpoint_id=folder)


def load_shards(folder: Path, learner: Learner, *, left_out: str | None, begun: bool) -> None:
    """Load the shards of :func:`save_shards` on any number of processes, sharded or not.

    Args:
        folder: folder of the shards.
        learner: the learner to fill.
        left_out: as for :func:`save_shards`.
        begun: True if the checkpoint was written after the first step.
    """
    with _quiet():
        state = _state(learner, left_out, begun=begun)
        optimizer = {"optimizer": state.pop("optimizer")} if begun else {}
        load(state, checkpoint_id=folder)
        set_model_state_dict(learner.step, state["model"], options=StateDictOptions(strict=left_out is None))
        if begun:
            # Partial, because a weight without gradients, as of an unused readout, has no optimiser state.
            load(optimizer, checkpoint_id=folder, planner=DefaultLoadPlanner(allow_partial_load=True))
            set_optimizer_state_dict(learner.step, learner.optimizer, optimizer["optimizer"])
        learner.load_averages(state.get("average", {}))


def _state(learner: Learner, left_out: str | None, *, begun: bool) -> dict[str, Any]:
    model = get_model_state_dict(learner.step)
    state: dict[str, Any] = {
        "model": {
            name: tensor
            for name, tensor in model.items()
            if left_out is None or not name.startswith(left_out)
        },
    }
    if begun:
        # Only after the first step: before it, torch would take an optimiser step to create the state.
        state["optimizer"] = get_optimizer_state_dict(learner.step, learner.optimizer)
    if averages := learner.averages():
        state["average"] = averages
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warnings about its own internals inside the block."""
    with catch_warnings():
        simplefilter("ignore")
        yield
