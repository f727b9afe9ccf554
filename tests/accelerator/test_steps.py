"""Every component trains and embeds on a device that is not the CPU, with the results of the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.inference.model import ModelName, load_model
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.joint import TrainStep
from esmgn_core.spec import Kind
from esmgn_core.testing import example_proteins
from esmgn_core.testing.downstream import labeled_examples
from esmgn_core.testing.simulated import OnDevice, moved_to_cuda, simulated_cuda

from ..contract.test_components import IN_PLUGIN, SMALL, without_unread

REGISTRY = discover()
USUAL = {Kind.SEQ: "esm2", Kind.STRUCT: "gearnet", Kind.FUSE: "serial", Kind.PRETEXT: "residue_type"}


def blueprint(**tables: dict[str, object]) -> Blueprint:
    """Small components; ``tables`` change names and settings."""
    stack = {kind.value: {"name": name, **tables.pop(kind.value, {})} for kind, name in USUAL.items()}
    for kind in USUAL:
        stack[kind.value] = SMALL.get((kind, stack[kind.value]["name"]), {}) | stack[kind.value]
    return resolve(REGISTRY, configure(REGISTRY, [without_unread(stack), tables]))


def check_training(plan: Blueprint) -> None:
    encoder = plan.encoder()
    step = TrainStep(encoder, plan.task(encoder.output_dim), plan.graph())
    check_step(step, ProteinBatch.from_proteins(example_proteins()))


def check_step(step: TrainStep, batch: ProteinBatch) -> None:
    """Loss, gradients and running statistics are those of the CPU."""
    twin = copy.deepcopy(step.train())
    torch.manual_seed(1)  # of dropout
    expected = twin(batch, SeededDraws(0, 0, range(len(batch)))).loss
    expected.backward()
    with simulated_cuda() as device:
        moved_to_cuda(step)
        torch.manual_seed(1)
        loss = step(batch.to(device), SeededDraws(0, 0, range(len(batch)))).loss
        loss.backward()
        gradients = {name: p.grad.cpu() for name, p in step.named_parameters() if p.grad is not None}
        buffers = {name: buffer.cpu() for name, buffer in step.named_buffers()}
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    ours = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}
    assert gradients.keys() == ours.keys()
    largest = max(float(gradient.abs().max()) for gradient in ours.values())
    for name, gradient in ours.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0.02, atol=1e-4 * largest, msg=name)
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-3, atol=1e-4, msg=name)


def names(kind: Kind) -> list[str]:
    return [spec.name for spec, _ in REGISTRY.components(kind) if (kind, spec.name) not in IN_PLUGIN]


@pytest.mark.parametrize("name", names(Kind.PRETEXT))
def test_pretext_tasks(name: str) -> None:
    check_training(blueprint(pretext={"name": name, "crop_length": 25}))


@pytest.mark.parametrize("name", names(Kind.STRUCT))
def test_structure_encoders(name: str) -> None:
    check_training(blueprint(struct={"name": name}))


@pytest.mark.parametrize("name", names(Kind.SEQ))
def test_sequence_encoders(name: str) -> None:
    check_training(blueprint(seq={"name": name}))


@pytest.mark.parametrize("name", names(Kind.FUSE))
def test_fusers(name: str) -> None:
    check_training(blueprint(fuse={"name": name}))


@pytest.mark.parametrize("name", names(Kind.GRAPH))
def test_graph_builders(name: str) -> None:
    check_training(blueprint(graph={"name": name}))


@pytest.mark.parametrize(
    "tables",
    [
        {"length": {"policy": "window", "max_residues": 50, "overlap": 10}},
        {"length": {"policy": "truncate", "max_residues": 50}},
        {"seq": {"chains": "concatenated", "gradient_checkpointing": True, "layers": [0, -1]}},
        {"seq": {"unknown_residue": "G"}, "fuse": {"output": "structure"}},
        {"optim": {"seq_lr_scale": 0.0}},
        {"pretext": {"plddt": {"threshold": 50.0, "weight": 0.5, "drop_edges": True}}},
        {"fuse": {"readout": "attention"}},
        {"pretext": {"name": "multiview_contrast", "symmetric": True, "group_size": 2}},
        {"pretext": {"name": "distance", "hide_pairs": True}},
    ],
    ids=str,
)
def test_settings(tables: dict[str, dict[str, object]]) -> None:
    check_training(blueprint(**tables))


@pytest.mark.parametrize("name", names(Kind.DOWNSTREAM))
def test_downstream_tasks(name: str) -> None:
    """A step on labels, and predictions."""
    plan = blueprint()
    encoder = plan.encoder()
    component: Any = REGISTRY.load(REGISTRY.component(Kind.DOWNSTREAM, name))
    settings = component.Settings(max_length=40, test_max_length=60)
    task = component(settings, encoder_dim=encoder.output_dim, num_targets=3)
    batch = ProteinBatch.from_proteins(labeled_examples(task.group_size, task.label_dim))
    assert batch.labels is not None
    task.prepare(batch.labels[:: task.group_size])
    step = TrainStep(encoder, task, plan.graph())
    expected = copy.deepcopy(step).eval().predict(task.eval(), batch, SeededDraws(0, 0, range(len(batch))))
    check_step(step, batch)
    step.eval()
    with simulated_cuda() as device:
        _, predictions = step.predict(task, batch.to(device), SeededDraws(0, 0, range(len(batch))))
        assert isinstance(predictions, OnDevice)
        assert predictions.shape == expected[1].shape


@pytest.mark.parametrize("struct", ["gearnet", None])
def test_embedding(struct: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings by a joint encoder, and by a sequence encoder alone."""
    # In inference mode PyTorch asks the wrapper for whole composite operations, which it cannot run.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    names = {"seq": "esm2_tiny"} | ({"struct": struct, "fuse": "serial"} if struct else {})
    model = load_model(ModelName(names=names), device="cpu")
    expected = model.embed_batch(example_proteins())
    with simulated_cuda() as device:
        moved_to_cuda(model.encoder)
        model.device = device
        found = model.embed_batch(example_proteins())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.residue, theirs.residue, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.protein, theirs.protein, rtol=1e-3, atol=1e-3)


def test_a_batch_gets_there_whole() -> None:
    with simulated_cuda() as device:
        batch = ProteinBatch.from_proteins(example_proteins()).to(device)
        assert isinstance(batch.ptr, OnDevice)
        assert isinstance(batch.select(batch.protein_index == 0).backbone, OnDevice)
