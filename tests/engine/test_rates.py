"""Learning rates over the steps of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from esmgn_core.engine.optimizer import LearningRate, Plateau
from esmgn_core.settings import OptimTable


def rates(num_steps: int = 10, steps_per_epoch: int = 1, **optim: Any) -> LearningRate:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, (1.0, 0.1), strict=True)]
    settings = OptimTable(**optim)
    return LearningRate(SGD(groups, lr=1.0), settings, num_steps=num_steps, steps_per_epoch=steps_per_epoch)


def test_a_constant_rate_after_a_warm_up() -> None:
    rate = rates(schedule="constant", warmup_steps=3)
    assert [rate.set(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_every_group_follows_in_its_proportion() -> None:
    rate = rates(schedule="constant", warmup_steps=1)
    rate.set(0)
    assert [group["lr"] for group in rate._optimizer.param_groups] == [0.5, 0.05]


def test_a_cosine_falls_from_the_end_of_the_warm_up_to_the_lowest_rate() -> None:
    rate = rates(num_steps=10, schedule="cosine", warmup_steps=2, min_lr_scale=0.1)
    curve = [rate.set(step) for step in range(11)]
    assert curve[2] == 1.0
    assert curve[6] == pytest.approx(0.55)
    assert curve[10] == pytest.approx(0.1)
    assert curve[2:] == sorted(curve[2:], reverse=True)


def test_steps_fall_as_those_of_torch_every_so_many_epochs() -> None:
    """GearNet's classification of folds halves the rate every 50 epochs."""
    rate = rates(num_steps=600, steps_per_epoch=3, schedule="step", step_epochs=50, step_factor=0.5)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = StepLR(optimizer, step_size=50, gamma=0.5)
    for epoch in range(200):
        expected = optimizer.param_groups[0]["lr"]
        assert [rate.set(3 * epoch + step) for step in range(3)] == [expected] * 3
        optimizer.step()
        theirs.step()


def test_the_published_decay_on_a_rising_score() -> None:
    """Steps 0-6 at 1e-4, 7-12 at 6e-5, ... 49 at 1.68e-6, as its scheduler gives for 50 epochs."""
    plateau, curve = Plateau(OptimTable(schedule="plateau")), []
    for epoch in range(50):
        curve.append(1e-4 * plateau.factor)
        plateau.update(0.1 + 0.01 * epoch)
    published = {0: 1e-4, 6: 1e-4, 7: 6e-5, 12: 6e-5, 13: 3.6e-5, 19: 2.16e-5, 25: 1.296e-5, 31: 7.776e-6}
    published |= {37: 4.67e-6, 43: 2.80e-6, 48: 2.80e-6, 49: 1.68e-6}
    assert {epoch: curve[epoch] for epoch in published} == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_that_of_torch(mode: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(60, generator=generator) + torch.linspace(1, 0, 60)).tolist()
    settings = OptimTable(schedule="plateau", plateau_mode=mode, plateau_factor=0.5, plateau_patience=2)
    plateau, optimizer = Plateau(settings), SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=2)
    for value in values:
        plateau.update(value)
        theirs.step(value)
        if optimizer.param_groups[0]["lr"] > 1e-7:  # torch stops at a smallest step
            assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert plateau.factor < 1
