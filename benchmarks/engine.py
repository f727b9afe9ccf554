"""What the engine costs: waste in batches, reading of data, and its overhead over a bare loop.

    OMP_NUM_THREADS=1 python benchmarks/engine.py --data FOLDER

Processor time of this process, in alternating rounds, medians of ratios. ``--data`` is a folder of
structure files; made-up proteins if not given.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from esmgn_core import hookimpl
from esmgn_core.batch import ProteinBatch
from esmgn_core.compose import Blueprint, draw_up
from esmgn_core.configure import configure, data_tables, parse_assignments
from esmgn_core.engine.distributed import numerics
from esmgn_core.engine.loader import ResidueSchedule, build_schedule, encoded_lengths
from esmgn_core.engine.session import start_run
from esmgn_core.model import TrainStep
from esmgn_core.protocols import ProteinDataset
from esmgn_core.registry import discover
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


def passes(
    blueprint: Blueprint, dataset: ProteinDataset, steps: int
) -> Iterator[tuple[ProteinBatch, object, float]]:
    """Batches of a run, their draws, and the seconds it took to read and pack each."""
    schedule = build_schedule(dataset, blueprint.config.train, world_size=1)
    for number in range(steps):
        for part in schedule.micro_batches(number, 0):
            started = time.process_time()
            batch = ProteinBatch.from_proteins([dataset[index] for index in part.indices])
            yield batch, part.draws(0, number), time.process_time() - started


def bare(blueprint: Blueprint, dataset: ProteinDataset, steps: int) -> tuple[float, float]:
    """Seconds of a loop of the same model without the engine, and of reading within it."""
    encoder = blueprint.encoder()
    step = TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph()).train()
    optimizer = torch.optim.Adam(step.parameters(), lr=2e-4)
    started, reading = time.process_time(), 0.0
    for batch, draws, seconds in passes(blueprint, dataset, steps):
        reading += seconds
        optimizer.zero_grad(set_to_none=True)
        step(batch, draws).loss.backward()
        optimizer.step()
    return time.process_time() - started, reading


def engine_seconds(config: RunConfig) -> float:
    """Seconds of all steps of a run but the last, which saves the model."""
    times: dict[int, float] = {}

    class Clock:
        @hookimpl
        def esmgn_run_started(self) -> None:
            times[0] = time.process_time()

        @hookimpl
        def esmgn_metrics_logged(self, step: int) -> None:
            times[step] = time.process_time()

    clock = Clock()
    discover().manager.register(clock)
    try:
        with tempfile.TemporaryDirectory() as folder:
            start_run(discover(), config, out=Path(folder) / "run")
    finally:
        discover().manager.unregister(clock)
    return times[max(times) - 1] - times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = composed(arguments.data, arguments.steps)
    blueprint = draw_up(discover(), config)
    dataset = blueprint.dataset()
    batches(config, dataset, 100)
    ratios, shares = [], []
    with numerics(torch.device("cpu")):
        bare(blueprint, dataset, 2)
        for _ in range(arguments.rounds):
            loop, reading = bare(blueprint, dataset, arguments.steps - 1)
            ratios.append(engine_seconds(config) / loop)
            shares.append(reading / loop)
    print(f"reading and packing: {100 * statistics.median(shares):.2f} % of a step")
    print(f"engine against a bare loop: {100 * (statistics.median(ratios) - 1):+.1f} % processor time")


if __name__ == "__main__":
    main()
