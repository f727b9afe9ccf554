"""Runs of one encoder: training, resume, and use of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import esmgn_core
from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.errors import PluginError, SettingsError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.tensors import load_weights
from esmgn_core.settings import RunConfig
from esmgn_core.testing import example_proteins

from .conftest import SMALL

REGISTRY = discover()


def config_of(fuse: str, *changes: str) -> RunConfig:
    left_out = {"sequence": "struct.", "structure": "seq."}[fuse]
    small = [text for text in SMALL if not text.startswith(left_out)]
    layers = [parse_assignments([f"fuse.name={fuse}", *small]), parse_assignments(changes)]
    return configure(REGISTRY, layers)


@pytest.mark.parametrize(("fuse", "prefix"), [("sequence", "sequence."), ("structure", "structure.")])
def test_a_run_trains_and_saves_its_only_encoder(fuse: str, prefix: str, tmp_path: Path) -> None:
    run = start_run(REGISTRY, config_of(fuse), out=tmp_path / "run").run
    tensors = load_weights(run.model)
    assert tensors
    assert all(name.startswith(prefix) for name in tensors)
    model = esmgn_core.load(run.path)
    assert model.random_parts == ()
    assert model.sequence_only == (fuse == "sequence")
    assert model.embed(example_proteins()[0]).residue.isfinite().all()


@pytest.mark.parametrize("fuse", ["sequence", "structure"])
def test_a_resumed_run_has_the_losses_of_a_whole_one(fuse: str, tmp_path: Path) -> None:
    whole = start_run(REGISTRY, config_of(fuse, "train.max_steps=4"), out=tmp_path / "whole").run
    half = start_run(REGISTRY, config_of(fuse, "train.max_steps=2"), out=tmp_path / "half").run
    resume_run(REGISTRY, half.path, changes={"train": {"max_steps": 4}})
    assert [line["loss"] for line in half.read_metrics()] == [line["loss"] for line in whole.read_metrics()]


def test_a_sequence_encoder_alone_reads_no_coordinates() -> None:
    encoder, build_graph = blueprint_of("sequence").encoder().eval(), blueprint_of("sequence").graph()
    batch = ProteinBatch.from_proteins(example_proteins())
    moved = batch.replace(backbone=2 * batch.backbone)
    assert not build_graph(batch).edge_index.numel()
    with torch.no_grad():
        first, second = (encoder(given, build_graph(given)) for given in (batch, moved))
    assert torch.equal(first.residue, second.residue)
    assert torch.equal(first.protein, second.protein)


def blueprint_of(fuse: str) -> Blueprint:
    return resolve(REGISTRY, config_of(fuse))


def test_a_structure_encoder_alone_has_no_features_to_cache() -> None:
    encoder = blueprint_of("structure").encoder()
    cache = config_of("structure", "cache.features=fp32").cache
    with pytest.raises(SettingsError, match="this run has none"):
        encoder.keep_features(cache)


def test_a_fuser_that_calls_an_undeclared_encoder_is_named() -> None:
    encoder = blueprint_of("structure").encoder()
    with pytest.raises(PluginError, match="calls a sequence encoder, which it does not declare"):
        encoder.sequence(ProteinBatch.from_proteins(example_proteins()))
