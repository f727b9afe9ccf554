"""The optimiser, learning rates, loss scaling and weight averages of a training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.tensor import DTensor

from esmgn_core.engine.optimizer import Average, LearningRate, build_optimizer
from esmgn_core.model.joint import TrainStep
from esmgn_core.settings import OptimTable


class Learner:
    """Encoder and task with optimiser, learning rates and, if configured, weight averages and loss scaling.

    Attributes:
        step: encoder, task and graph builder, on the device of the run.
        optimizer: over every trained parameter.
        rate: the learning-rate schedule.

    Args:
        step: see above.
        settings: the run's ``[optim]`` table.
        num_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
    """

    def __init__(
        self, step: TrainStep, settings: OptimTable, *, num_steps: int, steps_per_epoch: int
    ) -> None:
        device = next(step.parameters()).device
        self.step = step
        self._clip_norm = settings.clip_norm
        self.optimizer = build_optimizer(step, settings)
        self.rate = LearningRate(
            self.optimizer, settings, num_steps=num_steps, steps_per_epoch=steps_per_epoch
        )
        self._average = Average(step, settings.ema_decay) if settings.ema_decay else None
        self._scaler = GradScaler(device.type, enabled=step.precision is torch.float16)

    def start(self, number: int) -> float:
        """Clear the gradients and set the rates of step ``number``, from 0; returns the learning rate."""
        self.optimizer.zero_grad(set_to_none=True)
        return self.rate.set(number)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` to those of the step."""
        torch.autograd.backward(self._scaler.scale(loss))

    def finish(self, divisor: float) -> None:
        """Update the weights with the gradients of the step, divided by ``divisor`` and clipped.

        The optimiser's fused kernel divides, which saves one pass over all gradients.
        """
        self._scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        scale = torch.full((), divisor, device=parameters[0].device)
        if self._clip_norm:
            norm = nn.utils.get_total_norm(gradients)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            scale = scale.maximum(norm / self._clip_norm)
        if self._scaler.is_enabled() and gradients:
            # Some versions of torch overwrite grad_scale when a loss scaler is used.
            torch._foreach_div_(gradients, scale)
        else:
            self.optimizer.grad_scale = scale  # type: ignore[attr-defined]  # fused optimizers read it
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average:
            self._average.update()

    @contextmanager
    def evaluating(self) -> Iterator[TrainStep]:
        """``step`` in evaluation mode without gradients, with averaged weights if they are kept."""
        averaged = self._average.applied() if self._average else nullcontext()
        with averaged, torch.no_grad():
            yield self.step.eval()

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint; weights, averages and the optimiser's state are saved separately."""
        return {
            "rate": self.rate.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.num_updates if self._average else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a :meth:`state_dict`; averages are reset to the current weights."""
        self.rate.load_state_dict(state["rate"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self._average:
            self._average.restart(state["average"] or 0)

    def averages(self) -> dict[str, Tensor]:
        """Averaged weights by name; empty without averages."""
        return self._average.averages if self._average else {}

    def load_averages(self, averages: Mapping[str, Tensor]) -> None:
        """Restore :meth:`averages`; missing ones stay unchanged."""
        with torch.no_grad():
            for name, average in self.averages().items():
                if name in averages:
                    average.copy_(averages[name])
