"""The training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.checkpoint import Checkpoints, RunProgress, save_best
from esmgn_core.engine.checkpoint_files import CheckpointError
from esmgn_core.engine.distributed import World, lost_contact
from esmgn_core.engine.evaluate import Report, evaluate, report_run
from esmgn_core.engine.interruption import Interruption, received_by_any
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.loader import Reader
from esmgn_core.engine.memory import balance, usage
from esmgn_core.engine.microbatch import MicrobatchSplit, ShortageError
from esmgn_core.engine.observers import Observers
from esmgn_core.engine.schedule import MicroBatch, Schedule, seed_step
from esmgn_core.engine.selection import Selection
from esmgn_core.engine.step import MetricAverager, MicrobatchRunner
from esmgn_core.engine.validate import Evaluation
from esmgn_core.errors import EsmgnError, RunError, WriteError, without_exits
from esmgn_core.machine.files import write_atomically
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import DownstreamTask, ProteinDataset
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import TrainTable

Value = TypeVar("Value")
_Pass = tuple[MicroBatch, ProteinBatch]
_REASON = 160
"""Maximum length of a reason in the log."""


@dataclass(slots=True)
class Trainer:
    """Trains a run from its first or resumed step to its last.

    Attributes:
        dataset: all proteins.
        schedule: proteins of each step.
        train: the run's ``[train]`` table.
        checkpoints: the run's checkpoints, with its folder, processes and learner.
        observers: the run's observers.
        progress: completed steps and the best one.
        report: scores with intervals at the end of a downstream run.
    """

    dataset: ProteinDataset
    schedule: Schedule
    train: TrainTable
    checkpoints: Checkpoints
    observers: Observers
    progress: RunProgress
    report: Report = field(default_factory=dict)
    run: RunFolder = field(init=False)
    world: World = field(init=False)
    learner: Learner = field(init=False)
    downstream: DownstreamTask | None = field(init=False)
    _runner: MicrobatchRunner = field(init=False)
    _reader: Reader = field(init=False)
    _split: MicrobatchSplit = field(init=False)
    _valid_split: MicrobatchSplit = field(init=False)
    _evaluation: Evaluation = field(init=False)
    _trained_on: MetricAverager = field(init=False, default_factory=MetricAverager)

    def __post_init__(self) -> None:
        self.run, self.world = self.checkpoints.run, self.checkpoints.world
        self.learner = self.checkpoints.learner
        step = self.learner.step
        self.downstream = step.downstream
        self._runner = MicrobatchRunner(self.learner, self.world)
        self._reader = Reader(self.dataset, self.train.workers, self._unreadable, self.observers.notice)
        self._split = MicrobatchSplit(self.run, self.progress.pieces)
        self.progress.pieces = self._split.number
        self._valid_split = MicrobatchSplit(self.run, key="valid_pieces")
        self._evaluation = Evaluation(self._reader, step, self.train, self.world, self._valid_split)

    @property
    def is_unfinished(self) -> bool:
        """True if steps or the report are left."""
        return self.progress.step < self.schedule.num_steps or (
            self.downstream is not None and not self.run.results.exists()
        )

    def fit(self) -> int:
        """Train to the last step, or until a signal arrives.

        Returns:
            0, or the number of the signal that stopped the run after it was saved.

        Raises:
            RunError: the loss is not finite, or another process ended.
        """
        interruption = Interruption(self.train.time_limit and 60 * self.train.time_limit)
        first, error = self.progress.step, None
        self.observers.notify("run_started", total_steps=self.schedule.num_steps, first_step=first)
        try:
            with interruption.caught(), without_exits():
                if self.world.size > 1 and not self.progress.step:
                    # If memory is short in one process, all have to be restarted from a checkpoint.
                    self._checkpoint(needed=False)
                received = self._loop(interruption)
                if self.downstream and not received:
                    self._report(self.downstream)
                return received
        except BaseException as caught:
            error = caught
            self._log_failure(caught)
            if lost_contact(caught):
                raise RunError(
                    f"step {self.progress.step + 1}: another process of the run ended",
                    f"resume from the last checkpoint: esmgn run --resume {self.run.path}",
                ) from caught
            raise
        finally:
            self.observers.notify("run_finished", error=error)

    def _log_failure(self, error: BaseException) -> None:
        """Log why the run ended, for listings of runs; other processes than the main one add their rank."""
        reason = " ".join(f"{type(error).__name__} {error}".split())
        if lost_contact(error):
            self.run.log(f"process {self.world.rank} lost contact to another: {reason}")
            reason = "another process of the run ended"
        elif isinstance(error, EsmgnError):
            reason = error.message
        if self.world.is_main or not lost_contact(error):
            number = "" if self.world.is_main else f"process {self.world.rank}: "
            self.run.log(f"failed: {number}{reason[:_REASON]}")

    def _loop(self, interruption: Interruption) -> int:
        loaded = self._loaded_from(self.progress.step)
        while self.progress.step < self.schedule.num_steps:
            number, started = self.progress.step, time.perf_counter()
            try:
                means, totals = self._train_step(number, loaded, interruption)
            except ShortageError as shortage:
                self._halve(self._split, number, shortage)
                self.progress.pieces = self._split.number
                loaded = self._loaded_from(number)
                continue
            values = {
                "epoch": self.schedule.epoch(number) + 1,
                **means,
                **self._speed(totals, time.perf_counter() - started),
            }
            self.progress.step = number + 1
            finished = self.progress.step == self.schedule.num_steps
            stop = received_by_any(totals)
            if validates := finished or self._validates(number):
                values |= self._validate(means)
            if validates or stop or number == 0 or self.progress.step % self.train.log_every == 0:
                self._log(values)
            needed = finished or bool(stop)
            if needed or self.progress.step % self.train.checkpoint_every == 0:
                self._checkpoint(needed=needed)
            if stop and not finished:
                return stop
        return 0

    def _speed(self, totals: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Speed of a step of ``seconds``, waiting times, and use of memory and GPU."""
        return {
            "residues_per_second": totals["residues"] / seconds,
            "loading_percent": 100 * totals["waiting"] / (seconds * self.world.size),
            **balance([totals[f"busy_{rank}"] for rank in range(self.world.size)]),
            **usage(self.world.device),
        }

    def _loaded_from(self, first: int) -> Iterator[_Pass]:
        """Yield the passes of this process from step ``first`` (from 0) to the last one."""
        return self._reader.read(
            part
            for number in range(first, self.schedule.num_steps)
            for part in self.schedule.micro_batches(number, self.world.rank, self.progress.pieces)
        )

    def _halve(self, split: MicrobatchSplit, number: int, shortage: ShortageError) -> None:
        self.observers.notice(split.halve(number, shortage.released(), alone=self.world.size == 1))

    def _in_memory(self, work: Callable[[], Value]) -> Value:
        """Run ``work`` over validation or test proteins, in smaller passes if memory is short."""
        while True:
            try:
                return work()
            except ShortageError as shortage:
                self._halve(self._valid_split, self.progress.step - 1, shortage)

    def _unreadable(self, index: int, reason: str) -> None:
        self.run.add_refused(f"protein {index}", reason)
        self.observers.notice(f"protein {index} cannot be read and is left out: {reason}")

    def _report(self, task: DownstreamTask) -> None:
        """Score the model on all test sets, and log the scores."""
        with self.learner.evaluating():
            self.report = self._in_memory(lambda: report_run(self.run, self._evaluation, task, self.progress))
        tests = [name for name in self.report if name != "valid"]
        values = {f"{name}_{key}": item["value"] for name in tests for key, item in self.report[name].items()}
        if values:
            self._log(values)

    def _validates(self, number: int) -> bool:
        epochs_done = self.schedule.epoch(number) + 1
        return self.schedule.ends_epoch(number) and epochs_done % self.train.validate_every == 0

    def _train_step(
        self, number: int, loaded: Iterator[_Pass], interruption: Interruption
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Run one step; returns the values to log, and sums over the processes.

        Raises:
            ShortageError: a pass did not fit into memory.
        """
        self._runner.begin()
        seed_step(self.train.seed, number, self.world.rank)
        means, num_residues, waiting, working = MetricAverager(), 0, 0.0, 0.0
        names: list[str] = []
        rate, last = self.learner.start(number), False
        while not last:
            requested = time.perf_counter()
            part, batch = next(loaded)
            last = part.last
            waiting += time.perf_counter() - requested
            names += batch.names
            num_residues += batch.num_residues
            began = time.thread_time()
            means.add(self._runner.run(batch, part.draws(self.train.seed, number), last=last))
            working += time.thread_time() - began
        interruption.check_time()
        sums = interruption.votes()
        sums |= {"residues": num_residues, "waiting": waiting, **self._busy(waiting, working)}
        values, totals = means.over(self.world, like=means, **sums)
        if not math.isfinite(values["loss"]):
            self._stop_non_finite(number, names, values["loss"])
        self._trained_on = means
        self.learner.finish((totals["num_samples"] or 1.0) / self.world.size)
        if totals["left_out"]:
            values["left_out"] = totals["left_out"]
        return {**values, "lr": rate}, totals

    def _busy(self, waiting: float, working: float) -> dict[str, float]:
        """Working time of this process under its rank and 0 for the others, to be summed over processes.

        On a GPU only the time of reading data is counted, because a thread that waits for a GPU spins.
        """
        seconds = waiting + (working if self.world.device.type == "cpu" else 0.0)
        return {f"busy_{rank}": seconds * (rank == self.world.rank) for rank in range(self.world.size)}

    def _validate(self, train_means: Mapping[str, float]) -> dict[str, float]:
        """Compute means and scores over the validation set, and save the model if it is the best so far.

        The best model has the highest deciding score of a downstream task, else the lowest validation loss,
        or without validation proteins the lowest training loss. Values that are not finite are never the
        best. If no validation gives a finite value, the weights of the last step are saved.
        """
        indices = self.dataset.split("valid")
        name, deciding, logged = "loss", train_means["loss"], {}
        with self.learner.evaluating() as step:
            if indices:
                means, scores = self._in_memory(lambda: evaluate(self._evaluation, indices))
                values, totals = means.over(self.world, like=self._trained_on)
                if not totals["num_samples"]:  # the mean of no predictions is 0, which would be the best
                    values = dict.fromkeys(values, math.nan)
                name = f"valid_{self.downstream.metric if self.downstream else 'loss'}"
                deciding = scores[self.downstream.metric] if self.downstream else values["loss"]
                logged = {f"valid_{name}": value for name, value in (values | scores).items()}
            value = -deciding if self.downstream and indices else deciding
            selection = Selection(self.progress.step, name, deciding)
            if math.isfinite(value) and value < self.progress.best_value:
                self._save_best(step, selection, value)
            elif not math.isfinite(value):
                self._undefined(step, selection)
        self.learner.rate.validated(deciding)
        return logged

    def _undefined(self, step: TrainStep, selection: Selection) -> None:
        """Warn about a validation value that is not finite; save the last weights if none was finite."""
        last = self.progress.step == self.schedule.num_steps and math.isinf(self.progress.best_value)
        outcome = "this step cannot be selected as the best"
        if last:
            outcome = (
                f"no validation gave a number, so {self.run.model.name} has the weights of this last step"
            )
            self._save_best(step, selection, math.inf)
        name = selection.name.replace("valid_", "validation ")
        self.observers.notice(f"step {selection.step}: the {name} is {selection.value}; {outcome}")

    def _save_best(self, step: TrainStep, selection: Selection, value: float) -> None:
        # If writing fails, the file still holds the earlier encoder, so its value must stay the reference.
        if self._written(self.run.model, lambda: save_best(self.run, step, selection, self.world)):
            self.progress.best_value, self.progress.best_step = value, selection.step

    def _checkpoint(self, *, needed: bool) -> None:
        self._written(self.run.last, lambda: self.checkpoints.save(self.progress), needed=needed)

    def _written(self, path: Path, write: Callable[[], None], *, needed: bool = False) -> bool:
        """Write a checkpoint; returns False, after a notice, if that fails.

        Raises:
            RunError: writing fails and ``needed`` or ``train.on_failed_checkpoint`` requires the checkpoint.
        """
        try:
            write()
        except CheckpointError as error:
            message = f"step {self.progress.step}: cannot write {path}: {error}"
            if needed or self.train.on_failed_checkpoint == "stop":
                hint = f"free disk space, then resume: esmgn run --resume {self.run.path}"
                raise RunError(message, hint) from error
            self.observers.notice(f"{message}; the previous one is unchanged, the run goes on")
            return False
        self.observers.notify("checkpoint_saved", path=path)
        return True

    def _log(self, values: Mapping[str, float]) -> None:
        if self.world.is_main:
            try:
                self.run.append_metrics(self.progress.step, values)
            except OSError as error:
                self.observers.notice(f"step {self.progress.step} is not in {self.run.metrics}: {error}")
            self.observers.notify("metrics_logged", step=self.progress.step, values=values)

    def _stop_non_finite(self, number: int, names: list[str], loss: float) -> None:
        everywhere = [name for part in self.world.gather(names) for name in part]
        record = {"step": number + 1, "loss": str(loss), "proteins": everywhere}
        if self.world.is_main:
            with suppress(WriteError):  # report the loss even if the file cannot be written
                write_atomically(self.run.non_finite, json.dumps(record, indent=2) + "\n")
        raise RunError(
            f"the loss of step {number + 1} is {loss}; the weights before this step are safe",
            f"its {len(everywhere)} proteins are listed in {self.run.non_finite}",
            "a smaller optim.lr or optim.clip_norm = 1.0 often helps",
        )
