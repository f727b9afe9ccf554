"""The estimate of memory before the first step."""

from __future__ import annotations

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.compose import draw_up
from esmgn_core.engine.memory import estimate_memory, parameter_memory
from esmgn_core.model import TrainStep
from esmgn_core.registry import discover

from .conftest import small_config


def test_parameters_gradients_and_adam_are_counted_exactly() -> None:
    layer = torch.nn.Linear(10, 5)
    layer.bias.requires_grad_(requires_grad=False)
    estimate = parameter_memory(layer, averaged=True)
    assert (estimate.weights, estimate.learning) == (55 * 4, 50 * 4 * 4)
    assert parameter_memory(layer, averaged=False).learning == 50 * 4 * 3


def test_activations_grow_with_residues_and_nothing_is_changed() -> None:
    blueprint = draw_up(discover(), small_config("data.num_proteins=4"))
    encoder = blueprint.encoder()
    step = TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph()).train()
    dataset = blueprint.dataset()
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    batches = [ProteinBatch.from_proteins([dataset[i] for i in range(n)]) for n in (1, 4)]
    few, all_of_them = (
        estimate_memory(step, batch, num_residues=batches[1].num_residues, averaged=False).activations
        for batch in batches
    )
    assert 0.7 < few / all_of_them < 1.4
    assert step.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.state_dict().items())
