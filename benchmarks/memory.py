"""Memory of a training step: estimated by ``esmgn check`` against the peak that torch allocates.

    python benchmarks/memory.py            # shapes of ESM-2 8M and 35M, a few minutes on two CPU cores
    python benchmarks/memory.py --quick    # 8M alone

Every step is the second one of a run on the CPU: forward pass, backward pass, Adam. Peaks are counted from
torch's own record of allocations, so that they do not depend on the system's allocator.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.memory import parameter_memory
from esmgn_core.engine.schedule import build_schedule, max_residues
from esmgn_core.engine.trial import Trial
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.blocks import recompute_activations
from esmgn_core.model.compose import Blueprint, resolve

_GB = 1e9


@dataclass(frozen=True, slots=True)
class Case:
    """A run to be measured: what differs from the published set-up of residue type prediction."""

    seq: str
    proteins: int
    sets: tuple[str, ...] = ()
    precision: torch.dtype | None = None

    def blueprint(self) -> Blueprint:
        """The run."""
        tables = {
            "seq": {"name": self.seq},
            "struct": {"name": "gearnet", "hidden_dim": 512, "num_layers": 6},
            "pretext": {"name": "residue_type"},
            "data": {"name": "sample", "num_proteins": 300, "min_length": 100},
            "train": {"proteins_per_batch": self.proteins},
        }
        return resolve(discover(), configure(discover(), [tables, parse_assignments(list(self.sets))]))


CASES = (
    Case("esm2_8m", 16, ("optim.seq_lr_scale=0",)),
    Case("esm2_8m", 16),
    Case("esm2_8m", 32),
    Case("esm2_8m", 16, precision=torch.bfloat16),
    Case("esm2_8m", 16, ("train.activation_checkpointing=true",)),
    Case("esm2_8m", 16, ("pretext.name=multiview_contrast",)),
    Case("esm2_8m", 16, ("pretext.name=distance",)),
    Case("esm2_8m", 8, ("pretext.name=dihedral",)),
    Case("esm2_8m", 8, ("pretext.name=siamdiff",)),
    Case("esm2_8m", 16, ("fuse.name=cross",)),
    Case("esm2_35m", 8, ("optim.seq_lr_scale=0",)),
    Case("esm2_35m", 8),
    Case("esm2_35m", 8, precision=torch.bfloat16),
)


def measured(case: Case) -> tuple[int, int, int]:
    """Bytes of weights, the estimate of all memory, and the measured peak of all memory."""
    blueprint = case.blueprint()
    dataset = blueprint.dataset()
    step = blueprint.with_random_weights().step(dataset, precision=case.precision)
    if blueprint.config.train.activation_checkpointing:
        recompute_activations(step.encoder)
    schedule = build_schedule(dataset, blueprint.config.train, world_size=1, most_residues=max_residues(step))
    estimate = Trial(blueprint, dataset, schedule).estimate(case.precision)
    optimizer = torch.optim.Adam([p for p in step.parameters() if p.requires_grad], foreach=False)
    part = schedule.micro_batches(0, 0)[0]
    batch = ProteinBatch.from_proteins([dataset[index] for index in part.indices])

    def train(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        step(batch, SeededDraws(0, number, part.positions)).loss.backward()
        optimizer.step()

    train(0)
    optimizer.zero_grad(set_to_none=True)
    weights = parameter_memory(step, averaged=False).weights
    states = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        train(1)
    held, peak = 0, 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]  # profiling is on
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return weights, estimate.total, weights + states + peak


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the shape of 8M alone")
    quick = parser.parse_args().quick
    print(f"{'case':78}{'estimate':>10}{'measured':>10}{'ratio':>7}")
    for case in CASES:
        if quick and case.seq != "esm2_8m":
            continue
        _, estimate, peak = measured(case)
        kind = "bf16" if case.precision else "fp32"
        name = f"{case.seq} {kind}, {case.proteins} proteins {' '.join(case.sets)}"
        print(f"{name:78}{estimate / _GB:7.2f} GB{peak / _GB:7.2f} GB{estimate / peak:7.2f}", flush=True)


if __name__ == "__main__":
    main()
