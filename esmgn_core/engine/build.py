"""Build data, model, schedule and optimiser of a resolved run."""

from __future__ import annotations

from typing import NamedTuple

import torch

from esmgn_core.engine.distributed import World, synchronize_batch_norm
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.lora import add_adapters
from esmgn_core.engine.schedule import Schedule, build_schedule, max_residues
from esmgn_core.engine.sharding import shard
from esmgn_core.errors import SettingsError
from esmgn_core.host.registry import Registry
from esmgn_core.machine.device import autocast_dtype
from esmgn_core.model.blocks import recompute_activations, repeated_blocks
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import LabeledDataset, ProteinDataset, ShowsWhole, lengths_of, weights_sha256
from esmgn_core.settings import CacheTable


class BuiltRun(NamedTuple):
    """The objects of a run, before its folder exists.

    Attributes:
        dataset: all proteins.
        schedule: proteins of each step.
        learner: encoder and task with their optimiser.
        weights_sha256: checksum of the sequence encoder's file of weights.
        cached: description of the feature cache for the log; empty without a cache.
    """

    dataset: ProteinDataset
    schedule: Schedule
    learner: Learner
    weights_sha256: str | None
    cached: str


def build_run(
    blueprint: Blueprint, registry: Registry, world: World, init: EncoderFolder | None = None
) -> BuiltRun:
    """Build data, model and learner of a run.

    Args:
        blueprint: the run's components.
        registry: all components.
        world: this process among all.
        init: folder of the encoder from which a new run starts.

    Raises:
        EsmgnError: the components do not fit each other, or weights cannot be read.
    """
    config = blueprint.config
    dataset = blueprint.dataset()
    _check_before_download(blueprint, dataset)
    step = _train_step(blueprint, dataset, world)
    if init:
        init.fill(step.encoder, registry)
    # The order matters. The cache key hashes the initial weights, so it comes before adapters and sharding.
    # The optimiser is built last, from the parameters that remain.
    cached = _keep_features(step, config.cache, dataset) if config.cache.features != "off" else ""
    weights = weights_sha256(step.encoder.sequence)
    if config.optim.lora_rank:
        add_adapters(step.encoder, config.optim)
    if config.train.strategy == "fsdp":
        _shard(step, world)
    schedule = build_schedule(dataset, config.train, world_size=world.size, most_residues=max_residues(step))
    learner = Learner(
        step, config.optim, num_steps=schedule.num_steps, steps_per_epoch=schedule.steps_per_epoch
    )
    return BuiltRun(dataset, schedule, learner, weights, cached)


def _check_before_download(blueprint: Blueprint, dataset: ProteinDataset) -> None:
    """Build everything on the meta device, to find errors before weights are downloaded.

    Raises:
        EsmgnError: as :meth:`Blueprint.step`.
    """
    with torch.device("meta"):
        try:
            blueprint.with_random_weights().step(dataset)
        except (RuntimeError, NotImplementedError):
            return  # a component does not support the meta device; errors then appear when it is built


def _train_step(blueprint: Blueprint, dataset: ProteinDataset, world: World) -> TrainStep:
    train = blueprint.config.train
    step = blueprint.step(dataset, precision=autocast_dtype(train.precision, world.device))
    if step.downstream and isinstance(dataset, LabeledDataset):
        step.downstream.prepare(dataset.labels(dataset.split("train")[:: dataset.group_size]))
    step.to(world.device)
    if world.size > 1 and train.sync_batch_norm:
        synchronize_batch_norm(step)
    if train.activation_checkpointing:
        recompute_activations(step.encoder)
    if train.compile:
        for block in repeated_blocks(step.encoder.get_submodule("sequence")):
            block.compile(dynamic=True)
    return step


def _keep_features(step: TrainStep, settings: CacheTable, dataset: ProteinDataset) -> str:
    """Cache the outputs of the frozen sequence encoder; returns a description for the log.

    Raises:
        SettingsError: the encoder is trained, or the task crops or masks every sequence.
    """
    cache = step.encoder.keep_features(settings, precision=step.precision)
    known = lengths_of(dataset)
    lengths = torch.as_tensor(() if known is None else known, dtype=torch.int64)
    whole = lengths[step.task.shows_whole(lengths)] if isinstance(step.task, ShowsWhole) else lengths
    if len(lengths) and not len(whole):
        raise SettingsError(
            "cache.features has nothing to cache: the task crops or masks the sequence of every protein",
            "if the task can use whole proteins: --set pretext.crop_length=0",
            "or switch the cache off: --set cache.features=off",
        )
    size = cache.bytes_for(whole.tolist(), step.encoder.sequence.output_dim) / 1e9
    return (
        f"features of at most {len(whole)} of {len(lengths)} proteins, {size:.3g} GB as {settings.features}, "
        f"are cached in {cache.folder}, up to {settings.max_gb:g} GB; it has {cache.num_kept} proteins now"
    )


def _shard(step: TrainStep, world: World) -> None:
    if step.precision is torch.float16:
        raise SettingsError("train.strategy=fsdp does not support fp16", "use train.precision=bf16")
    if world.size > 1:
        shard(step, world)
