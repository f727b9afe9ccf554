"""Optimisers, with one learning rate for the sequence encoder's blocks each and one for the rest."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from esmgn_core.engine.blocks import repeated_blocks
from esmgn_core.model import TrainStep
from esmgn_core.settings import OptimTable

Group = dict[str, object]


def build_optimizer(step: TrainStep, settings: OptimTable) -> Optimizer:
    """The optimiser over every trained parameter; a frozen sequence encoder is left out.

    It is a fused one: one kernel goes over all parameters once, and divides their gradients by
    ``optimizer.grad_scale`` on the way, if that is set.

    Args:
        step: encoder and task.
        settings: the run's ``[optim]`` table.
    """
    sequence = step.encoder.get_submodule("sequence")
    in_sequence = set(map(id, sequence.parameters()))
    others = [parameter for parameter in _trained(step) if id(parameter) not in in_sequence]
    groups: list[Group] = [{"params": others, "lr": settings.lr}, *_sequence_groups(sequence, settings)]
    groups = [group for group in groups if group["params"]]
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(groups, settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    make = Adam if settings.optimizer == "adam" else AdamW
    return make(groups, settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=decay, fused=True)


def _sequence_groups(sequence: nn.Module, settings: OptimTable) -> list[Group]:
    """Groups from the top of the sequence encoder to its embedding."""
    rate, decay = settings.lr * settings.seq_lr_scale, settings.seq_layer_decay
    if decay == 1:
        return [{"params": _trained(sequence), "lr": rate}]
    blocks = repeated_blocks(sequence)
    depth = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
    groups: dict[int, list[Tensor]] = {}
    for name, parameter in sequence.named_parameters():
        if parameter.requires_grad:
            outside = -1 if "embed" in name else len(blocks) - 1
            groups.setdefault(depth.get(id(parameter), outside), []).append(parameter)
    top = len(blocks) - 1
    return [
        {"params": groups[number], "lr": rate * decay ** (top - number)}
        for number in sorted(groups, reverse=True)
    ]


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
