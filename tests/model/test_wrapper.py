"""Optional members of components are found behind every wrapper."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed import (  # type: ignore[attr-defined]  # torch does not declare HashStore
    HashStore,
    destroy_process_group,
    init_process_group,
)
from torch.nn.parallel import DistributedDataParallel

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.engine.lora import add_adapters
from esmgn_core.engine.schedule import max_residues
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.feature_cache import CachedEncoder, FeatureCache
from esmgn_core.model.joint import JointEncoder, SequenceOnce, TrainStep
from esmgn_core.model.length import LengthPolicy
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import (
    HasReadout,
    HasSettings,
    HasWeightsFile,
    JoinsChains,
    LanguageModel,
    Recomputes,
    joins_chains,
    optional_members,
    readout_of,
    weights_sha256,
)
from esmgn_core.settings import CacheTable, ComponentSettings, LengthTable, OptimTable
from esmgn_core.spec import Kind
from esmgn_core.testing import example_batch


class Encoder(nn.Module):
    """A sequence encoder with every optional member."""

    class Settings(ComponentSettings):
        """How residues are pooled."""

        readout: str = "sum"
        """The readout."""

    output_dim = 4
    joins_chains = True
    weights_sha256 = "abc"

    def __init__(self) -> None:
        super().__init__()
        self.settings = self.Settings()

    def forward(self, batch: ProteinBatch) -> Encoding:
        return Encoding.from_residues(torch.ones(batch.num_residues, 4), batch)

    def residue_logits(self, batch: ProteinBatch) -> torch.Tensor:
        return torch.zeros(batch.num_residues, 20)


def windowed(encoder: Any, _: Path) -> Any:
    table = LengthTable(policy="window", max_residues=20, overlap=4)
    return LengthPolicy(table, joins_chains=False).reading(encoder)


def cached(encoder: Any, folder: Path) -> Any:
    cache = FeatureCache.of(encoder, CacheTable(features="fp32", path=folder), computed_in=None)
    return CachedEncoder(cache, encoder, example_batch())


def once(encoder: Any, _: Path) -> Any:
    return SequenceOnce(encoder)


def all_three(encoder: Any, folder: Path) -> Any:
    inside = CachedEncoder(cached(encoder, folder)._cache, windowed(encoder, folder), example_batch())
    return SequenceOnce(inside)


WRAPPERS = [windowed, cached, once, all_three, lambda encoder, _: EncoderWrapper(encoder)]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_has_the_members_of_its_encoder(wrap: Callable[..., Any], tmp_path: Path) -> None:
    """Also for ``inspect.getattr_static``, by which ``isinstance`` looks from Python 3.12 on."""
    wrapped = wrap(Encoder(), tmp_path)
    assert isinstance(wrapped, EncoderWrapper)
    for protocol in (JoinsChains, HasWeightsFile, HasSettings, LanguageModel):
        assert isinstance(wrapped, protocol)
    for name in filter(partial(hasattr, Encoder()), optional_members(Kind.SEQ)):
        inspect.getattr_static(wrapped, name)
    assert (joins_chains(wrapped), weights_sha256(wrapped), readout_of(wrapped)) == (True, "abc", "sum")
    assert wrapped.Settings is Encoder.Settings


@pytest.mark.parametrize("wrap", WRAPPERS[:3])
def test_a_wrapper_does_not_make_members_up(wrap: Callable[..., Any], tmp_path: Path) -> None:
    class Plain(nn.Module):
        Settings = ComponentSettings
        output_dim = 4

    wrapped = wrap(Plain(), tmp_path)
    for protocol in (JoinsChains, HasWeightsFile, HasSettings, LanguageModel):
        assert not isinstance(wrapped, protocol)
    assert (joins_chains(wrapped), weights_sha256(wrapped), readout_of(wrapped)) == (False, None, "mean")


def step_of(*changes: str) -> TrainStep:
    small = ["seq.name=esm2_tiny", "pretext.name=distance", "struct.hidden_dim=8", "struct.num_layers=1"]
    blueprint = resolve(discover(), configure(discover(), [parse_assignments([*small, *changes])]))
    encoder = blueprint.encoder()
    return TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph())


def has_all(encoder: JointEncoder) -> bool:
    sequence = encoder.sequence
    protocols = (JoinsChains, HasWeightsFile, HasSettings, LanguageModel)
    return all(isinstance(sequence, each) for each in protocols) and any(
        isinstance(child, Recomputes) for child in encoder.modules()
    )


def test_adapters_leave_the_members_of_an_encoder() -> None:
    pytest.importorskip("peft")
    step = step_of()
    add_adapters(step.encoder, OptimTable(lora_rank=2))
    assert has_all(step.encoder)


def test_processes_look_inside_the_wrapper_of_torch() -> None:
    """DDP forwards nothing: members are looked for in the step that it wraps."""
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(step_of())
        assert not isinstance(wrapped, HasSettings)
        assert has_all(wrapped.module.encoder)
        assert max_residues(wrapped.module) == 100
    finally:
        destroy_process_group()


def test_settings_of_an_encoder_may_have_no_readout() -> None:
    encoder = Encoder()
    encoder.settings = ComponentSettings()  # type: ignore[assignment]  # another class on purpose
    assert isinstance(encoder, HasSettings)
    assert not isinstance(encoder.settings, HasReadout)
    assert readout_of(encoder) == "mean"
