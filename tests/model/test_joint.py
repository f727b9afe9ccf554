"""The joint encoder keeps a frozen part in evaluation mode; a step runs its heads under autocast."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import View
from esmgn_core.model.joint import JointEncoder, TrainStep
from esmgn_core.testing import ExampleGraph, example_batch
from esmgn_core.testing.examples import ExampleSequenceEncoder, ExampleStructureEncoder
from esmgn_fusion.serial import SerialFuser


class NotingTask(nn.Module):
    """Notes the type that autocast computes in while its heads run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, torch.dtype | None] = {}

    def _note(self, name: str) -> None:
        enabled = torch.is_autocast_enabled("cpu")
        self.seen[name] = torch.get_autocast_dtype("cpu") if enabled else None

    def views(self, batch: ProteinBatch, build_graph: ExampleGraph, _draws: object) -> tuple[View, ...]:
        self._note("views")
        return (View(batch, build_graph(batch)),)

    def loss(self, _views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        self._note("loss")
        return TaskOutput(encodings[0].residue.float().square().mean(), 1)

    def predict(self, encoding: Encoding, _batch: ProteinBatch) -> Tensor:
        self._note("predict")
        return encoding.protein


def encoder() -> JointEncoder:
    sequence = ExampleSequenceEncoder()
    structure = ExampleStructureEncoder(sequence.output_dim)
    widths = {"sequence_dim": sequence.output_dim, "structure_dim": structure.output_dim}
    return JointEncoder(sequence, structure, SerialFuser(SerialFuser.Settings(), **widths))


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_heads_run_in_the_precision_of_the_step_and_geometry_in_float32(
    precision: torch.dtype | None,
) -> None:
    task, batch = NotingTask(), example_batch()
    step = TrainStep(encoder(), task, ExampleGraph(), precision=precision)
    draws = SeededDraws(0, 0, range(len(batch)))
    step(batch, draws)
    assert task.seen == {"views": None, "loss": precision}
    task.seen.clear()
    step.predict(task, batch, draws)
    assert task.seen == {"views": None, "loss": precision, "predict": precision}


def test_a_frozen_sequence_encoder_stays_in_evaluation_mode() -> None:
    """Training mode would bring its dropout back, so that cached features were no longer its own."""
    joint = encoder().freeze_sequence()
    step = TrainStep(joint, NotingTask(), ExampleGraph())
    step.train()
    assert not any(module.training for module in joint.get_submodule("sequence").modules())
    assert joint.get_submodule("structure").training
    assert not any(parameter.requires_grad for parameter in joint.get_submodule("sequence").parameters())
    trained = TrainStep(encoder(), NotingTask(), ExampleGraph())
    assert trained.train().encoder.get_submodule("sequence").training
