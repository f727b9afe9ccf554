"""Optimisers, averages, precision and adapters: what changes weights, and that a resume changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from esmgn_core.engine.learner import Learner
from esmgn_core.engine.lora import add_adapters, merge_adapters
from esmgn_core.engine.optimizer import Average, build_optimizer
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import RunError, SettingsError
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.machine.device import autocast_dtype, numerics
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import TrainStep

from .conftest import Start, small_config
from .test_run import losses, same_tensors

EVERYTHING = (
    "optim.optimizer=adamw",
    "optim.weight_decay=0.01",
    "optim.schedule=plateau",
    "optim.plateau_patience=0",
    "optim.warmup_steps=1",
    "optim.seq_layer_decay=0.5",
    "optim.ema_decay=0.9",
    "optim.clip_norm=1.0",
    "train.accumulate=2",
    "train.proteins_per_batch=2",
)


def train_step(*changes: str) -> TrainStep:
    blueprint = resolve(discover(), small_config(*changes))
    encoder = blueprint.encoder()
    return TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.05, 1e6])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_step_divides_and_clips_gradients_as_torch_does(
    optimizer: str, clip_norm: float, precision: str
) -> None:
    """Against torch's plain optimisers and its clipping, over two steps; with a loss scaler and without."""
    names = (f"optim.optimizer={optimizer}", f"optim.clip_norm={clip_norm}", "optim.weight_decay=0.1")
    config = small_config(*names, "optim.lr=0.01")
    ours, theirs = train_step(*names), train_step(*names)
    theirs.load_state_dict(ours.state_dict())
    ours.precision = autocast_dtype(precision, torch.device("cpu"))
    learner = Learner(ours, config.optim, num_steps=2, steps_per_epoch=1)
    plain = build_optimizer(theirs, config.optim)
    plain.param_groups[0]["fused"] = plain.param_groups[1]["fused"] = False
    for number in range(2):
        learner.start(number)
        generator = torch.Generator().manual_seed(number)
        loss = torch.zeros(())
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = torch.randn(other.shape, generator=generator)
            loss = loss + (mine * other.grad * 8).sum()
        learner.backward(loss)
        learner.finish(8.0)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        plain.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        EVERYTHING,
        ("train.precision=fp16", "optim.schedule=cosine"),
        ("optim.lora_rank=2",),
        ("optim.optimizer=sgd", "optim.momentum=0.98", "optim.schedule=step", "optim.step_epochs=1"),
    ],
)
def test_a_resumed_run_equals_the_undisturbed_one(start: Start, changes: tuple[str, ...]) -> None:
    """Schedule, averages, scaler, adapters: all state comes back, to the last bit."""
    whole = start(*changes, out="whole").run
    half = start(*changes, "train.max_steps=3", out="half").run
    # A run cut short plans another cosine; the interrupted one has the plan of the whole run.
    if "optim.schedule=cosine" in changes:
        half = start(*changes, "train.time_limit=1e-9", out="stopped").run
        assert len(half.read_metrics()) == 1
    resumed = resume_run(discover(), half.path, changes={"train": {"max_steps": 6, "time_limit": 60.0}}).run
    assert losses(resumed)[-1] == losses(whole)[-1]
    assert same_tensors(resumed.last / "model.safetensors", whole.last / "model.safetensors")
    assert same_tensors(resumed.model, whole.model)


def test_the_published_optimiser_of_folds_is_the_one_of_its_recipe() -> None:
    """SGD at 1e-3 with momentum 0.98 and L2 penalty 5e-4, halved every 50 epochs."""
    settings = configure(discover(), [dict(discover().recipe("fold").run)]).optim
    optimizer = build_optimizer(train_step(), settings)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [optimizer.defaults[name] for name in ("lr", "momentum", "weight_decay")] == [1e-3, 0.98, 5e-4]
    assert (settings.schedule, settings.step_epochs, settings.step_factor) == ("step", 50, 0.5)


def test_blocks_learn_more_slowly_the_deeper_they_are() -> None:
    step = train_step("optim.seq_layer_decay=0.5", "seq.num_layers=3")
    settings = small_config("optim.seq_layer_decay=0.5", "optim.lr=1.0").optim
    rate_of = {
        id(parameter): group["lr"]
        for group in build_optimizer(step, settings).param_groups
        for parameter in group["params"]
    }
    by_name = {name: rate_of[id(parameter)] for name, parameter in step.named_parameters()}
    sequence = "encoder.sequence.model"
    assert [by_name[f"{sequence}.layers.{n}.fc1.weight"] for n in range(3)] == pytest.approx(
        [0.025, 0.05, 0.1]
    )
    assert by_name[f"{sequence}.embed_tokens.weight"] == pytest.approx(0.0125)
    assert by_name[f"{sequence}.emb_layer_norm_after.weight"] == pytest.approx(0.1)
    assert {by_name[n] for n in by_name if n.startswith(("encoder.structure", "task"))} == {1.0}


def test_the_average_follows_its_formula_and_is_what_is_kept_as_best(start: Start) -> None:
    weights = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(weights.weight)
    average = Average(weights, 0.5)
    for value in (1.0, 3.0):
        torch.nn.init.constant_(weights.weight, value)
        average.update()
    # d_1 = 2/11, d_2 = 3/12: 0 -> 9/11 -> 0.25 * 9/11 + 0.75 * 3
    with average.applied():
        assert weights.weight.item() == pytest.approx(0.25 * 9 / 11 + 0.75 * 3)
    assert weights.weight.item() == 3.0
    run = start("optim.ema_decay=0.99", "train.max_steps=3", "data.valid_fraction=0").run
    best, last = load_file(run.model), load_file(run.last / "model.safetensors")
    trained = [name for name in best if name.endswith("weight")]
    assert not any(torch.equal(best[name], last[name]) for name in trained)


def test_adapters_train_alone_start_without_effect_and_merge_into_plain_weights(start: Start) -> None:
    before = train_step("optim.lora_rank=2").encoder
    adapted = train_step("optim.lora_rank=2").encoder
    add_adapters(adapted, small_config("optim.lora_rank=2").optim)
    trained = [name for name, p in adapted.sequence.named_parameters() if p.requires_grad]  # type: ignore[attr-defined]  # a member of the class that the test builds
    assert trained
    assert all(".lora_" in name for name in trained)
    assert {"fc1", "q_proj"} <= {name.split(".")[-4] for name in trained}
    plain = before.state_dict()
    state = merge_adapters(adapted)
    assert state.keys() == plain.keys()
    assert all(torch.equal(state[name], plain[name]) for name in plain)

    run = start("optim.lora_rank=2", "optim.seq_lr_scale=1", out="adapted").run
    kept, changed = load_file(run.model), "sequence.model.layers.0.self_attn.q_proj.weight"
    assert {n for n in kept if n.startswith("sequence")} == {n for n in plain if n.startswith("sequence")}
    assert torch.linalg.matrix_rank(kept[changed] - plain[changed], rtol=1e-3) == 2
    assert torch.equal(
        kept["sequence.model.embed_tokens.weight"], plain["sequence.model.embed_tokens.weight"]
    )


def test_every_adapter_takes_part_in_the_loss() -> None:
    """An encoder that reads the weights of its layers by itself would pass the adapters by."""
    step = train_step("optim.lora_rank=2")
    add_adapters(step.encoder, small_config("optim.lora_rank=2").optim)
    from esmgn_core.batch import ProteinBatch
    from esmgn_core.draws import SeededDraws

    dataset = resolve(discover(), small_config()).dataset()
    batch = ProteinBatch.from_proteins([dataset[0], dataset[1]])
    step(batch, SeededDraws(0, 0, [0, 1])).loss.backward()
    ups = {n: p for n, p in step.encoder.sequence.named_parameters() if "lora_B" in n}  # type: ignore[attr-defined]  # a member of the class that the test builds
    assert len(ups) == 2 * 6
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in ups.values())


def test_adapters_on_a_frozen_encoder_are_refused(start: Start) -> None:
    with pytest.raises(SettingsError, match=r"optim\.seq_lr_scale = 0 freezes"):
        start("optim.lora_rank=2", "optim.seq_lr_scale=0")


def test_adapters_without_peft_name_the_extra(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RunError) as caught:
        start("optim.lora_rank=2")
    assert str(caught.value).splitlines() == [
        "optim.lora_rank needs the package peft",
        "  install it: pip install 'esmgn[lora]'",
    ]


def test_recomputed_activations_change_no_bit(start: Start) -> None:
    plain = start("train.max_steps=2", out="plain").run
    again = start("train.max_steps=2", "train.activation_checkpointing=true", out="again").run
    assert same_tensors(plain.last / "model.safetensors", again.last / "model.safetensors")


def test_activation_checkpointing_that_no_encoder_can_do_is_refused(start: Start) -> None:
    with pytest.raises(RunError, match="neither encoder can recompute its activations"):
        start("train.activation_checkpointing=true", "seq.name=onehot")


def test_compile_takes_the_blocks_of_the_sequence_encoder(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of ESM-2 in two parts each, around attention."""
    compiled: list[str] = []

    def noted(function: Callable[..., object], **_: object) -> Callable[..., object]:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", noted)
    start("train.compile=true", "train.max_steps=1")
    assert compiled == 2 * ["before_attention", "after_attention"]


@pytest.mark.parametrize(
    ("precision", "dtype", "cpu_dtype"),
    [("fp32", None, None), ("tf32", None, None), ("bf16", torch.bfloat16, torch.bfloat16),
     ("fp16", torch.float16, torch.float16), ("auto", torch.bfloat16, None)],
)  # fmt: skip
def test_precisions(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    dtype: torch.dtype | None,
    cpu_dtype: torch.dtype | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    cuda = torch.device("cuda", 0)
    assert autocast_dtype(precision, cuda) == dtype
    assert autocast_dtype(precision, torch.device("cpu")) == cpu_dtype
    before = torch.get_float32_matmul_precision()
    with numerics(cuda, precision=precision):
        assert torch.get_float32_matmul_precision() == ("highest" if precision == "fp32" else "high")
    assert torch.get_float32_matmul_precision() == before


def test_a_device_without_bf16_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(RunError, match=r"use --set train\.precision=fp16"):
        autocast_dtype("bf16", torch.device("cuda", 0))


def test_every_step_enters_the_average() -> None:
    """d_1 = 2/11: the average after one step is the initial weights and the new ones, mixed."""
    step = train_step()
    before = {name: tensor.detach().clone() for name, tensor in step.named_parameters()}
    learner = Learner(step, small_config("optim.ema_decay=0.9").optim, num_steps=1, steps_per_epoch=1)
    learner.start(0)
    learner.backward(torch.stack([parameter.sum() for parameter in step.parameters()]).sum())
    learner.finish(1.0)
    averages = learner.averages()
    for name, parameter in step.named_parameters():
        assert not torch.equal(parameter, before[name])
        torch.testing.assert_close(averages[name], before[name].lerp(parameter.detach(), 9 / 11))


def test_the_rate_falls_once_validations_do_not_improve() -> None:
    changes = ("optim.schedule=plateau", "optim.plateau_patience=0", "optim.plateau_factor=0.25")
    learner = Learner(train_step(), small_config(*changes).optim, num_steps=9, steps_per_epoch=1)
    rates = []
    for number, value in enumerate((2.0, 1.0, 3.0, 0.5)):
        rates.append(learner.start(number))
        learner.rate.validated(value)
    rates.append(learner.start(4))
    assert rates == pytest.approx([0.001, 0.001, 0.001, 0.00025, 0.00025])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimiser_gets_its_settings(name: str) -> None:
    changes = (
        f"optim.optimizer={name}",
        "optim.betas=[0.8, 0.95]",
        "optim.eps=1e-6",
        "optim.weight_decay=0.2",
    )
    defaults = build_optimizer(train_step(), small_config(*changes).optim).defaults
    assert defaults["betas"] == (0.8, 0.95)
    assert (defaults["eps"], defaults["weight_decay"]) == (1e-6, 0.2)
