"""Weights, gradients and optimiser state shared out over processes (FSDP2), and their checkpoints."""

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
    """Share out the parameters of a step: each block of the sequence encoder on its own, then the rest."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in repeated_blocks(step.encoder.get_submodule("sequence")):
        fully_shard(block, mesh=mesh)
    fully_shard(step, mesh=mesh)
    register_fsdp_forward_method(step, "predict")


def is_sharded(module: nn.Module) -> bool:
    """Whether :func:`shard` was applied."""
    return isinstance(module, FSDPModule)


def synchronize_gradients(step: nn.Module, *, wanted: bool) -> None:
    """Whether the next backward pass adds up gradients over processes, or keeps them for a later one."""
    if isinstance(step, FSDPModule):
        step.set_requires_gradient_sync(wanted)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The whole state, on the CPU of the main process; empty elsewhere. All processes take part."""
    with _quiet():
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Tensor] = get_model_state_dict(module, options=options)  # type: ignore[assignment]  # torch
        return state


def fill_shards(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module with whole tensors, those of them that are given; every process takes its share."""
    with _quiet():
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(module, dict(tensors), options=options)


def save_shards(folder: Path, learner: Learner, *, left_out: str | None) -> None:
    """Write the weights and the optimiser's state, every process its share.

    Args:
        folder: where to.
        learner: what is written.
        left_out: weights whose names begin so stand in a file already.
    """
    with _quiet():
        save(_state(learner, left_out, begun=bool(learner.optimizer.state)), checkpoint_id=folder)


def load_shards(folder: Path, learner: Learner, *, left_out: str | None, begun: bool) -> None:
    """Read what :func:`save_shards` wrote, on any number of processes, sharded or not.

    Args:
        folder: where from.
        learner: what is filled.
        left_out: as it was written.
        begun: whether steps were taken before it was written.
    """
    with _quiet():
        state = _state(learner, left_out, begun=begun)
        optimizer = {"optimizer": state.pop("optimizer")} if begun else {}
        load(state, checkpoint_id=folder)
        set_model_state_dict(learner.step, state["model"], options=StateDictOptions(strict=left_out is None))
        if begun:
            # A weight that no gradient has reached, as that of a readout nobody reads, has no state.
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
        # Asked before its first step, torch would let the optimiser take one.
        state["optimizer"] = get_optimizer_state_dict(learner.step, learner.optimizer)
    if averages := learner.averages():
        state["average"] = averages
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on its own internals."""
    with catch_warnings():
        simplefilter("ignore")
        yield
