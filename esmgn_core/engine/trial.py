"""Estimate the memory of a run with a large model from a model with fewer blocks.

All blocks of a sequence encoder need the same memory. Measurements with one and two blocks (more if the
fuser needs more), together with the whole structure encoder, fuser and task, give the memory of a block and
of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from esmgn_core.engine.lora import add_adapters
from esmgn_core.engine.memory import (
    ActivationCost,
    MemoryEstimate,
    activation_cost,
    largest_pass,
    parameter_memory,
    small_batches,
)
from esmgn_core.engine.schedule import Schedule
from esmgn_core.errors import SettingsError
from esmgn_core.model.blocks import recompute_activations
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import ProteinDataset, needs_layers
from esmgn_core.spec import Kind

TRIED_UP_TO = 50_000_000
"""Maximum number of parameters of a model that is measured as a whole."""
_LARGEST_WHOLE = 400_000_000
"""The same maximum for a model whose number of blocks is unknown."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A run to be estimated.

    Attributes:
        blueprint: the run's components.
        dataset: all proteins.
        schedule: proteins of each step.
    """

    blueprint: Blueprint
    dataset: ProteinDataset
    schedule: Schedule

    def estimate(self, precision: torch.dtype | None) -> MemoryEstimate:
        """Estimate the memory of one process, without activations if blocks cannot be removed.

        Args:
            precision: autocast dtype, ``None`` for float32.

        Raises:
            EsmgnError: encoder, graph and task do not fit each other or these proteins.
        """
        optim = self.blueprint.config.optim
        with torch.device("meta"):
            whole = self._prepared(self.blueprint.with_random_weights().step(self.dataset))
        parameters = parameter_memory(whole, averaged=optim.ema_decay > 0)
        if self.blueprint.config.train.strategy == "fsdp":
            parameters = _shared(parameters, self.schedule.world_size)
        cost = self._cost(sum(p.numel() for p in whole.parameters()), precision)
        if cost is None:
            return parameters
        return parameters.with_pass(cost, largest_pass(whole, self.dataset, self.schedule))

    def _cost(self, num_parameters: int, precision: torch.dtype | None) -> ActivationCost | None:
        blocks = _blocks(self.blueprint)
        if num_parameters <= TRIED_UP_TO or (blocks is None and num_parameters <= _LARGEST_WHOLE):
            return self._measured(self.blueprint, precision)
        if blocks is None:
            return None
        layered = needs_layers(self.blueprint.parts[Kind.FUSE][1])
        fewest = min(_fewest_blocks(self.blueprint), blocks)
        try:
            one = self._measured(_cut_to(self.blueprint, fewest), precision)
        except SettingsError:
            if not layered:
                raise
            return None  # the fuser names blocks that a smaller model does not have
        frozen = self.blueprint.config.optim.seq_lr_scale == 0 and Kind.SEQ not in layered
        if blocks == fewest or frozen:
            return one  # a frozen encoder keeps no activations at any depth, unless a fuser learns inside it
        two = self._measured(_cut_to(self.blueprint, fewest + 1), precision)
        return one.at_depth(two, blocks - fewest + 1)

    def _measured(self, blueprint: Blueprint, precision: torch.dtype | None) -> ActivationCost:
        step = self._prepared(blueprint.with_random_weights().step(self.dataset, precision=precision))
        return activation_cost(step, small_batches(self.dataset, self.schedule))

    def _prepared(self, step: TrainStep) -> TrainStep:
        config = self.blueprint.config
        if config.train.activation_checkpointing:
            recompute_activations(step.encoder)
        if config.optim.lora_rank:
            add_adapters(step.encoder, config.optim)
        return step


def _blocks(blueprint: Blueprint) -> int | None:
    """Number of blocks of the sequence encoder that are used; ``None`` if its settings do not have it."""
    if Kind.SEQ not in blueprint.parts:
        return None
    settings: Any = blueprint.parts[Kind.SEQ][2]
    taken = getattr(settings, "taken", None)
    blocks = max(taken) if taken else getattr(settings, "num_layers", None)
    return blocks if isinstance(blocks, int) and blocks > 0 else None


def _fewest_blocks(blueprint: Blueprint) -> int:
    """Fewest blocks of the sequence encoder that the fuser can use: 1, or one for each structure layer."""
    if {*needs_layers(blueprint.parts[Kind.FUSE][1])} < {Kind.SEQ, Kind.STRUCT}:
        return 1
    layers = getattr(blueprint.parts[Kind.STRUCT][2], "num_layers", 1)
    return layers if isinstance(layers, int) else 1


def _cut_to(blueprint: Blueprint, blocks: int) -> Blueprint:
    settings: Any = blueprint.parts[Kind.SEQ][2]
    layers = {"layers": (-1,) * len(settings.layers)} if hasattr(settings, "layers") else {}
    return blueprint.with_sequence_settings(num_layers=blocks, **layers)


def _shared(memory: MemoryEstimate, world_size: int) -> MemoryEstimate:
    """The estimate with weights, gradients and optimiser state sharded over the processes."""
    return replace(memory, weights=memory.weights // world_size, learning=memory.learning // world_size)
