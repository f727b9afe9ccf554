"""Optimiser with one learning rate for the sequence encoder and one for the rest."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from esmgn_core.model import TrainStep
from esmgn_core.settings import OptimTable


def build_optimizer(step: TrainStep, settings: OptimTable) -> Optimizer:
    """Adam over every trained parameter; a frozen sequence encoder is left out."""
    sequence = _trained(step.encoder.get_submodule("sequence"))
    in_sequence = {id(parameter) for parameter in sequence}
    others = [parameter for parameter in _trained(step) if id(parameter) not in in_sequence]
    groups = [{"params": others, "lr": settings.lr}]
    if sequence:
        groups.append({"params": sequence, "lr": settings.lr * settings.seq_lr_scale})
    return Adam(
        groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
