"""The training loop."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from esmgn_core.batch import TaskOutput
from esmgn_core.engine.distributed import World
from esmgn_core.engine.loader import VALIDATION_STEP, MicroBatch, Schedule, held_out_batches, seed_step
from esmgn_core.engine.run_folder import RunFolder, write_atomically
from esmgn_core.engine.state import Progress, save_best, save_last
from esmgn_core.errors import RunError
from esmgn_core.model import TrainStep
from esmgn_core.protocols import ProteinDataset
from esmgn_core.settings import OptimTable, TrainTable


class Means:
    """Running means of a loss and its metrics, weighted by the number of predictions.

    Those of a combined task's parts are called ``PART.loss`` and ``PART.METRIC``, each over the
    part's own predictions; ``loss`` is the weighted sum of the parts' losses.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.weights: dict[str, float] = {}
        self.num_samples = 0

    def add(self, output: TaskOutput) -> None:
        """Take in one forward pass."""
        self.num_samples += output.num_samples
        if not output.parts:
            self._add(output, "")
        for name, part in output.parts.items():
            self.weights[f"{name}.loss"] = part.weight
            self._add(part.output, f"{name}.")

    def _add(self, output: TaskOutput, prefix: str) -> None:
        values = {"loss": output.loss, **output.metrics}
        stacked = torch.stack([value.detach().double() for value in values.values()])
        for name, value in zip(values, stacked.tolist(), strict=True):
            self.sums[prefix + name] += value * output.num_samples
            self.counts[prefix + name] += output.num_samples

    def over(self, world: World, like: Means, **extra: float) -> tuple[dict[str, float], dict[str, float]]:
        """Means over all processes, and sums: ``num_samples`` and ``extra``.

        Args:
            world: all processes.
            like: means of the same task; this process may have seen no protein itself.
            **extra: further numbers of this process to be added up.
        """
        names, sums = list(like.sums), {"num_samples": self.num_samples, **extra}
        values = [
            *(self.sums[name] for name in names),
            *(self.counts[name] for name in names),
            *sums.values(),
        ]
        totals = world.sum(torch.tensor(values, dtype=torch.float64, device=world.device)).tolist()
        pairs = zip(totals, totals[len(names) : 2 * len(names)], strict=False)
        means = {name: total / max(count, 1.0) for name, (total, count) in zip(names, pairs, strict=False)}
        if like.weights:
            means = {"loss": sum(weight * means[name] for name, weight in like.weights.items()), **means}
        return means, dict(zip(sums, totals[2 * len(names) :], strict=True))


class Interruption:
    """Ctrl-C and SIGTERM as a request to stop after the step; the second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signal = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside the block."""
        previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@dataclass(slots=True)
class Trainer:
    """One run from its first or resumed step to its last.

    Attributes:
        step: encoder, task and graph builder, on the world's device.
        optimizer: over the trained parameters of ``step``.
        dataset: all proteins.
        schedule: which of them each step takes.
        run: where records and checkpoints go.
        world: this process among all.
        hooks: ``pluggy`` hook caller, for the observers.
        progress: where the run is.
    """

    step: TrainStep
    optimizer: Optimizer
    dataset: ProteinDataset
    schedule: Schedule
    train: TrainTable
    optim: OptimTable
    run: RunFolder
    world: World
    hooks: Any
    progress: Progress = field(default_factory=Progress)
    _wrapped: nn.Module = field(init=False)
    _trained_on: Means = field(init=False, default_factory=Means)

    def __post_init__(self) -> None:
        self._wrapped = self.step
        if self.world.size > 1:
            self._wrapped = DistributedDataParallel(self.step, broadcast_buffers=False)

    def fit(self) -> int:
        """Train to the end, or to the step in which a signal arrived.

        Returns:
            0, or the number of the signal that stopped the run after saving it.

        Raises:
            RunError: the loss is not finite.
        """
        interruption = Interruption()
        first, error = self.progress.step, None
        self._observe("run_started", total_steps=self.schedule.num_steps, first_step=first)
        try:
            with interruption.caught():
                return self._loop(interruption)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._observe("run_finished", error=error)

    def _loop(self, interruption: Interruption) -> int:
        for number in range(self.progress.step, self.schedule.num_steps):
            started = time.perf_counter()
            means, totals = self._train_step(number, interruption)
            values = {
                "epoch": self.schedule.epoch(number) + 1,
                **means,
                "residues_per_second": totals["residues"] / (time.perf_counter() - started),
            }
            self.progress.step = number + 1
            finished = self.progress.step == self.schedule.num_steps
            stop = _signal(totals)
            if validates := finished or self._validates(number):
                values |= self._validate(means)
            if validates or stop or number == 0 or self.progress.step % self.train.log_every == 0:
                self._log(values)
            if finished or stop or self.progress.step % self.train.checkpoint_every == 0:
                self._checkpoint()
            if stop and not finished:
                return stop
        return 0

    def _validates(self, number: int) -> bool:
        epochs_done = self.schedule.epoch(number) + 1
        return self.schedule.ends_epoch(number) and epochs_done % self.train.validate_every == 0

    def _train_step(
        self, number: int, interruption: Interruption
    ) -> tuple[dict[str, float], dict[str, float]]:
        self._wrapped.train()
        seed_step(self.train.seed, number, self.world.rank)
        parts = self.schedule.micro_batches(number, self.world.rank)
        means, num_residues = Means(), 0
        self.optimizer.zero_grad(set_to_none=True)
        for position, part in enumerate(parts):
            batch = part.collate(self.dataset).to(self.world.device)
            num_residues += batch.num_residues
            with self._synchronised(last=position == len(parts) - 1):
                output: TaskOutput = self._wrapped(batch, part.draws(self.train.seed, number))
                torch.autograd.backward(self._summed(output))
            means.add(output)
        values, totals = means.over(
            self.world,
            like=means,
            residues=num_residues,
            interrupted=interruption.signal == signal.SIGINT,
            terminated=interruption.signal == signal.SIGTERM,
        )
        if not math.isfinite(values["loss"]):
            self._stop_non_finite(number, parts, values["loss"])
        self._apply_gradients(self.world.size / max(totals["num_samples"], 1.0))
        self._trained_on = means
        return values, totals

    def _summed(self, output: TaskOutput) -> Tensor:
        """The sum over predictions of this process.

        :meth:`_apply_gradients` divides it by their number over all passes and processes, which is
        not known before. The parts of a combined task differ in their numbers, so that each is
        brought to the number of proteins first, by the numbers of all processes in this pass.
        """
        if not output.parts:
            return output.loss * output.num_samples
        parts = list(output.parts.values())
        own = torch.tensor([output.num_samples, *(part.output.num_samples for part in parts)])
        num_proteins, *counts = self.world.sum(own.to(self.world.device)).tolist()
        shares = [
            part.output.loss * (part.weight * part.output.num_samples * num_proteins / max(count, 1))
            for part, count in zip(parts, counts, strict=True)
        ]
        return torch.stack(shares).sum()

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        if isinstance(self._wrapped, DistributedDataParallel) and not last:
            return self._wrapped.no_sync()
        return nullcontext()

    def _apply_gradients(self, factor: float) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        if self.optim.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.optim.clip_norm)
        self.optimizer.step()

    @torch.no_grad()
    def _validate(self, train_means: Mapping[str, float]) -> dict[str, float]:
        """Means over the held-out proteins; keeps the encoder if it is the best so far.

        Without held-out proteins the loss of the training step decides.
        """
        indices = self.dataset.split("valid")
        loss, logged = train_means["loss"], {}
        if indices:
            self._wrapped.eval()
            means = Means()
            for part in held_out_batches(indices, self.train, self.world):
                batch = part.collate(self.dataset).to(self.world.device)
                means.add(self.step(batch, part.draws(self.train.seed, VALIDATION_STEP)))
            values, _ = means.over(self.world, like=self._trained_on)
            loss, logged = values["loss"], {f"valid_{name}": value for name, value in values.items()}
        if loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step = loss, self.progress.step
            if self.world.is_main:
                save_best(self.run, self.step.encoder, {"step": str(self.progress.step)})
                self._observe("checkpoint_saved", path=self.run.model)
        return logged

    def _checkpoint(self) -> None:
        if self.world.is_main:
            save_last(self.run, self.step, self.optimizer, self.progress)
            self._observe("checkpoint_saved", path=self.run.last)
        self.world.barrier()

    def _log(self, values: Mapping[str, float]) -> None:
        if self.world.is_main:
            self.run.append_metrics(self.progress.step, values)
            self._observe("metrics_logged", step=self.progress.step, values=values)

    def _observe(self, event: str, **arguments: Any) -> None:
        """Tell the observers; one that fails is noted in the log and cannot harm the run."""
        if not self.world.is_main:
            return
        given = {"run": self.run, **arguments}
        # One by one: pluggy's own call would leave out those after the first that fails.
        for observer in getattr(self.hooks, f"esmgn_{event}").get_hookimpls():
            try:
                observer.function(*(given[name] for name in observer.argnames))
            except Exception as error:  # noqa: BLE001 - a stranger's observer may raise anything
                reason = f"{type(error).__name__}: {error}"
                self.run.log(f"observer {observer.plugin_name} of {event} failed: {reason}")

    def _stop_non_finite(self, number: int, parts: list[MicroBatch], loss: float) -> None:
        names = [self.dataset[index].name for part in parts for index in part.indices]
        everywhere = [name for part in self.world.gather(names) for name in part]
        record = {"step": number + 1, "loss": str(loss), "proteins": everywhere}
        if self.world.is_main:
            write_atomically(self.run.non_finite, json.dumps(record, indent=2) + "\n")
        raise RunError(
            f"the loss of step {number + 1} is {loss}; the weights before this step are safe",
            f"its {len(everywhere)} proteins are listed in {self.run.non_finite}",
            "a smaller optim.lr or optim.clip_norm = 1.0 often helps",
        )


def _signal(totals: Mapping[str, float]) -> int:
    """The signal that any process received, 0 for none."""
    if totals["terminated"]:
        return signal.SIGTERM
    return signal.SIGINT if totals["interrupted"] else 0
