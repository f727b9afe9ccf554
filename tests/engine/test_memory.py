"""The estimate of memory before the first step."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.memory import activation_cost, parameter_memory
from esmgn_core.engine.schedule import build_schedule
from esmgn_core.engine.trial import Trial
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import TrainStep

from .conftest import Start, small_config


def test_parameters_gradients_and_adam_are_counted_exactly() -> None:
    layer = torch.nn.Linear(10, 5)
    layer.bias.requires_grad_(False)
    estimate = parameter_memory(layer, averaged=True)
    assert (estimate.weights, estimate.learning) == (55 * 4, 50 * 4 * 4)
    assert parameter_memory(layer, averaged=False).learning == 50 * 4 * 3


def test_activations_grow_with_residues_and_nothing_is_changed() -> None:
    blueprint = resolve(discover(), small_config("data.num_proteins=4"))
    encoder = blueprint.encoder()
    step = TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph()).train()
    dataset = blueprint.dataset()
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    batches = [ProteinBatch.from_proteins([dataset[i] for i in range(n)]) for n in (1, 4)]
    few, all_of_them = (activation_cost(step, [batch]).bytes(batches[1].num_residues) for batch in batches)
    assert 0.7 < few / all_of_them < 1.4
    assert step.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.state_dict().items())


def test_a_run_tells_its_memory_before_the_first_step(start: Start) -> None:
    log = start("train.max_steps=1").run.log_file.read_text()
    assert "memory of a step: about 0.0 GB: weights 0.0, gradients and optimiser 0.0, activations" in log


def test_a_notice_warns_of_short_memory(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    monkeypatch.setattr("esmgn_core.engine.session.free_memory_of", lambda _: 1000)
    monkeypatch.setattr("esmgn_core.engine.observers.Observers.notice", lambda _, text: notices.append(text))
    start("train.max_steps=1")
    assert notices[0].endswith("Reduce: train.residues_per_batch, train.activation_checkpointing")


@pytest.mark.parametrize("fuse", ["serial", "token", "inject"])
def test_a_model_with_fewer_blocks_gives_the_memory_of_the_whole(
    fuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a frozen sequence encoder inside which the fuser learns."""
    seq = (
        "seq.name=esm2",
        "seq.weights=random",
        "seq.num_layers=6",
        "seq.embed_dim=32",
        "seq.attention_heads=4",
    )
    changes = (
        *seq,
        f"fuse.name={fuse}",
        "struct.num_layers=2",
        "optim.seq_lr_scale=0",
        "data.num_proteins=8",
    )
    blueprint = resolve(discover(), small_config(*changes))
    dataset = blueprint.dataset()
    schedule = build_schedule(dataset, blueprint.config.train, world_size=1)
    whole = Trial(blueprint, dataset, schedule).estimate(None)
    monkeypatch.setattr("esmgn_core.engine.trial.TRIED_UP_TO", 0)
    cut = Trial(blueprint, dataset, schedule).estimate(None)
    assert cut.activations == pytest.approx(whole.activations, rel=0.25)
    assert (cut.weights, cut.learning) == (whole.weights, whole.learning)
