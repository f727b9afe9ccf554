"""Whole runs on a simulated CUDA device: the losses of the CPU, and files that a CPU can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import esmgn_core
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.host.configure import parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.testing import example_proteins
from esmgn_core.testing.simulated import simulated_cuda

from ..engine.conftest import small_config

SETTINGS = [
    (),
    ("optim.ema_decay=0.9", "optim.schedule=cosine", "optim.clip_norm=1.0", "train.accumulate=2"),
    ("optim.seq_lr_scale=0", "cache.features=fp32", "pretext.name=distance", "pretext.crop_length=0"),
    ("optim.optimizer=sgd", "train.residues_per_batch=120", "pretext.name=siamdiff"),
    ("optim.optimizer=adamw", "optim.lora_rank=2", "optim.seq_layer_decay=0.9"),
]


@pytest.fixture
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the engine asks of a machine with a GPU of 80 GB."""
    answers = {
        "is_available": True, "device_count": 1, "is_bf16_supported": True, "set_device": None,
        "mem_get_info": (60e9, 80e9), "max_memory_allocated": 10**9, "utilization": 50,
        "get_device_name": "simulated", "empty_cache": None,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    with simulated_cuda():
        yield


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss", "valid_loss") if name in line]


@pytest.mark.parametrize("changes", SETTINGS, ids=" ".join)
@pytest.mark.usefixtures("_one_gpu")
def test_a_run_has_the_losses_of_the_cpu(changes: tuple[str, ...], tmp_path: Path) -> None:
    common = ("train.max_steps=4", "train.precision=fp32", f'cache.path="{tmp_path / "features"}"', *changes)
    for device in ("cpu", "cuda"):
        start_run(discover(), small_config(*common, f"train.device={device}"), out=tmp_path / device)
    assert json.loads((tmp_path / "cuda" / "environment.json").read_text())["device"] == "simulated"
    ours, expected = losses(tmp_path / "cuda"), losses(tmp_path / "cpu")
    assert len(expected) > 4
    assert ours == pytest.approx(expected, rel=2e-3)


@pytest.mark.usefixtures("_one_gpu")
def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = ("train.precision=fp32", "train.device=cuda", "optim.ema_decay=0.9")
    start_run(discover(), small_config("train.max_steps=6", *config), out=tmp_path / "whole")
    start_run(discover(), small_config("train.max_steps=4", *config), out=tmp_path / "parts")
    resume_run(discover(), tmp_path / "parts", changes=parse_assignments(["train.max_steps=6"]))
    assert losses(tmp_path / "parts")[-1] == pytest.approx(losses(tmp_path / "whole")[-1], rel=1e-4)
    model = esmgn_core.load(tmp_path / "parts", device="cpu")
    assert model.embed(example_proteins()[0]).residue.device.type == "cpu"
