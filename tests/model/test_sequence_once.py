"""Views of one step that share their sequence are read once by the sequence encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import View
from esmgn_core.model.joint import JointEncoder, SequenceOnce, TrainStep
from esmgn_core.testing import example_proteins
from esmgn_core.testing.examples import ExampleGraph, ExampleSequenceEncoder, ExampleStructureEncoder
from esmgn_fusion.serial import SerialFuser


class TwoViews(nn.Module):
    """The protein, and it moved; with the sequence of the one, or an equal copy."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.shared = shared

    def views(self, batch: ProteinBatch, build_graph: ExampleGraph, _draws: object) -> tuple[View, ...]:
        moved = batch.replace(backbone=1.3 * batch.backbone)
        if not self.shared:
            moved = moved.replace(residue_type=batch.residue_type.clone())
        return tuple(View(shape, build_graph(shape)) for shape in (batch, moved))

    def loss(self, _views: tuple[View, ...], encodings: list[Encoding]) -> TaskOutput:
        first, second = (encoding.residue for encoding in encodings)
        return TaskOutput((first * second.roll(1, 0)).sum() + second.square().sum(), 1)


def step(*, shared: bool) -> TrainStep:
    torch.manual_seed(0)
    sequence = ExampleSequenceEncoder()
    structure = ExampleStructureEncoder(sequence.output_dim)
    fuser = SerialFuser(
        SerialFuser.Settings(), sequence_dim=sequence.output_dim, structure_dim=structure.output_dim
    )
    return TrainStep(JointEncoder(sequence, structure, fuser), TwoViews(shared=shared), ExampleGraph())


def run(*, shared: bool) -> tuple[int, int, float, list[torch.Tensor]]:
    """Residues the sequence encoder and the structure encoder read, the loss, and all gradients."""
    module = step(shared=shared)
    read = {"sequence": 0, "structure": 0}
    for name in read:
        part = module.encoder.get_submodule(name)

        def count(_: nn.Module, inputs: tuple[ProteinBatch, ...], name: str = name) -> None:
            read[name] += inputs[0].num_residues

        part.register_forward_pre_hook(count)
    batch = ProteinBatch.from_proteins(example_proteins())
    output = module(batch, SeededDraws(0, 0, range(5)))
    output.loss.backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    return read["sequence"], read["structure"], float(output.loss.detach()), gradients  # type: ignore[return-value]  # every residue got a gradient


def test_one_pass_serves_both_views_with_the_same_loss_and_gradients() -> None:
    once, twice = run(shared=True), run(shared=False)
    assert (once[0], twice[0]) == (196, 392)
    assert once[1] == twice[1] == 392
    assert once[2] == pytest.approx(twice[2], rel=1e-6)
    for ours, plain in zip(once[3], twice[3], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["residue_type", "chain_index", "ptr"])
def test_a_view_with_another_sequence_chain_or_length_is_read_itself(name: str) -> None:
    batch = ProteinBatch.from_proteins(example_proteins())
    sequence = SequenceOnce(ExampleSequenceEncoder())
    first = sequence(batch)
    assert sequence(batch.replace(backbone=-batch.backbone)) is first
    assert sequence(replace(batch, **{name: getattr(batch, name).clone()})) is not first


def test_it_has_what_the_encoder_has() -> None:
    encoder = ExampleSequenceEncoder()
    sequence = SequenceOnce(encoder)
    assert sequence.output_dim == 10
    assert sequence.Settings is ExampleSequenceEncoder.Settings
    assert sequence.linear is encoder.linear
