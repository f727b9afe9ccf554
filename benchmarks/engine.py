"""What the engine costs: waste in batches, reading of data, and its overhead over a bare loop.

    OMP_NUM_THREADS=1 python benchmarks/engine.py --data FOLDER

The bare loop has the same model, optimiser, proteins, draws and (on the CPU repeatable) numerics, and
takes a step after each step of the run, in the same process. Times are of the processor. Checkpoints and
validation, which are a matter of settings, are left out; the log is written each step. ``--data`` is a folder
of structure files; made-up proteins if not given.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from esmgn_core import hookimpl
from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.optimizer import build_optimizer
from esmgn_core.engine.schedule import ResidueSchedule, build_schedule, encoded_lengths
from esmgn_core.engine.session import start_run
from esmgn_core.host.configure import configure, data_tables, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import ProteinDataset
from esmgn_core.settings import RunConfig

SETTINGS = (
    "seq.name=esm2_8m",
    "seq.weights=random",
    "struct.hidden_dim=256",
    "struct.num_layers=3",
    "train.proteins_per_batch=4",
    "train.epochs=1000",
    "train.checkpoint_every=100000",
    "train.validate_every=100000",
    "train.trackers=[]",
    "train.workers=0",
    "data.valid_fraction=0",
)


SET_SIZE, RESIDUES, PROCESSES = 20_000, 8192, 4
WARM_UP = 2
"""Steps that are not counted."""


def composed(data: str | None, steps: int) -> RunConfig:
    tables = [parse_assignments([*SETTINGS, f"train.max_steps={steps}"])]
    return configure(discover(), [*([data_tables(discover(), data)] if data else []), *tables])


def batches(config: RunConfig, dataset: ProteinDataset, crop: int) -> None:
    """How full passes are, and how evenly work is shared, in a set with these lengths that is large."""
    all_lengths = encoded_lengths(dataset, None)
    all_lengths = all_lengths.repeat(-(-SET_SIZE // len(all_lengths)))
    for most in (int(all_lengths.max()), crop):
        lengths = all_lengths.clamp(max=most)
        train = config.train.model_copy(update={"residues_per_batch": RESIDUES, "max_steps": None})
        schedule = ResidueSchedule(
            range(len(lengths)), lengths, group_size=1, settings=train, world_size=PROCESSES
        )
        full, even = [], []
        for number in range(schedule.steps_per_epoch):
            ranks = [schedule.micro_batches(number, rank) for rank in range(PROCESSES)]
            for parts in zip(*ranks, strict=True):
                sizes = [int(lengths[list(part.indices)].sum()) for part in parts]
                full += [size / RESIDUES for size in sizes]
                even.append(min(sizes) / max(sizes))
        print(
            f"at most {most} residues of a protein, {PROCESSES} processes: passes of {RESIDUES} residues are "
            f"{100 * statistics.mean(full):.1f} % full, the smallest of a step has "
            f"{100 * statistics.mean(even):.1f} % of the largest; padding: none (packed)"
        )


class BareLoop:
    """The same model, optimiser, proteins and draws without the engine, a step after each of a run's.

    As an observer of the run it takes turns with it step by step, so that what else the machine does
    hits both alike. The optimiser is the run's own kind. Like the run it is given its proteins by index, and
    packs them; the loss is read once a step.

    Attributes:
        engine, loop: seconds of the processor for each step of the run, and of the loop.
        reading: those of the loop for reading and packing.
    """

    def __init__(self, blueprint: Blueprint, dataset: ProteinDataset) -> None:
        encoder = blueprint.encoder()
        self._step = TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph()).train()
        self._optimizer = build_optimizer(self._step, blueprint.config.optim)
        self._schedule = build_schedule(dataset, blueprint.config.train, world_size=1)
        self._dataset = dataset
        self._left = 0.0
        self.engine: list[float] = []
        self.loop: list[float] = []
        self.reading: list[float] = []

    @hookimpl
    def esmgn_run_started(self) -> None:
        """From here on the run trains."""
        self._left = time.process_time()

    @hookimpl
    def esmgn_metrics_logged(self, step: int) -> None:
        """The run took a step: take the same."""
        came = time.process_time()
        self.engine.append(came - self._left)
        self.reading.append(self._take(step - 1))
        self._left = time.process_time()
        self.loop.append(self._left - came)

    def _take(self, number: int) -> float:
        reading = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        for part in self._schedule.micro_batches(number, 0):
            started = time.process_time()
            batch = ProteinBatch.from_proteins([self._dataset[index] for index in part.indices])
            reading += time.process_time() - started
            loss = self._step(batch, part.draws(0, number)).loss
            loss.backward()
            loss.item()
        self._optimizer.step()
        return reading


def beside_a_run(config: RunConfig, blueprint: Blueprint, dataset: ProteinDataset) -> BareLoop:
    """A run of the engine and its bare loop."""
    loop = BareLoop(blueprint, dataset)
    discover().manager.register(loop)
    try:
        with tempfile.TemporaryDirectory() as folder:
            start_run(discover(), config, out=Path(folder) / "run")
    finally:
        discover().manager.unregister(loop)
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    config = composed(arguments.data, arguments.steps)
    blueprint = resolve(discover(), config)
    dataset = blueprint.dataset()
    batches(config, dataset, 100)
    loop = beside_a_run(config, blueprint, dataset)
    pairs = list(zip(loop.engine, loop.loop, strict=True))[WARM_UP:]
    share = statistics.median(reading / step for reading, step in zip(loop.reading, loop.loop, strict=True))
    overhead = statistics.median(engine / step for engine, step in pairs) - 1
    total = sum(engine for engine, _ in pairs) / sum(step for _, step in pairs) - 1
    print(f"reading and packing: {100 * share:.2f} % of a step")
    more = 1e3 * statistics.median(engine - step for engine, step in pairs)
    print(
        f"engine against a bare loop, {len(pairs)} steps of {1e3 * statistics.median(loop.loop):.0f} ms: "
        f"{100 * overhead:+.1f} % processor time in the median ({more:+.1f} ms), {100 * total:+.1f} % in sum"
    )


if __name__ == "__main__":
    main()
