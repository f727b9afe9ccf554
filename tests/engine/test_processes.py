"""Two and four processes give the run of one: losses and weights, for every objective."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esmgn_core.engine import train as train_module
from esmgn_core.engine.schedule import seed_step
from esmgn_core.engine.session import resume_run
from esmgn_core.host.configure import parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

from .processes import Job, run_alone, run_together
from .test_run import MEASURED

GLOBAL_BATCH = 8
COMMON = (
    "data.num_proteins=14",
    "data.max_length=36",
    "data.valid_fraction=0.2",
    "train.max_steps=3",
    "train.epochs=9",
    "train.checkpoint_every=2",
    # A bias that a batch norm or a softmax cancels has a gradient of rounding noise, which Adam's usual
    # epsilon turns into steps of full size, in one process as in many.
    "optim.eps=0.001",
)
SPECIAL = {
    # Training contrasts the proteins of all processes; validation contrasts those of its pass.
    # Pieces and a mild temperature, for where all are found the loss is a difference of nearly equal numbers.
    "multiview_contrast": (
        "pretext.gather=true",
        "pretext.crop_length=12",
        "pretext.temperature=0.5",
        "data.valid_fraction=0",
    ),
}
PRETEXT = [spec.name for spec, _ in discover().components(Kind.PRETEXT)]
SCALES = {"frozen": 0, "trained": 0.5}
RUNS = {
    f"{name}-{kind}": (f"pretext.name={name}", f"optim.seq_lr_scale={scale}", *SPECIAL.get(name, ()))
    for name in [*PRETEXT, "residue_type+distance"]
    for kind, scale in SCALES.items()
}
NOT_BY_FOUR = {name for number, name in enumerate(RUNS) if number % 4 in {1, 2}}
"""Four processes run each objective once, frozen and trained by turns."""
RUNS["residues-averaged"] = ("optim.seq_lr_scale=0", "optim.ema_decay=0.5")
# Nothing reads these readouts: their weights get no gradient, and no process may wait for one.
RUNS["unread_readout"] = ("optim.seq_lr_scale=0", "struct.readout=attention")
RUNS["cross_reference"] = (
    "optim.seq_lr_scale=0.5",
    "fuse.name=cross",
    "fuse.cross_dim=16",
    "fuse.dropout=0",
    "fuse.reference=true",
    "fuse.readout=attention",
    "struct.readout=attention",
)
RUNS["clipped"] = ("optim.seq_lr_scale=0.5", "optim.clip_norm=0.05")
RUNS["sharded"] = ("struct.readout=attention", "train.strategy=fsdp", *RUNS["clipped"])
# Without a block of its own everything is shared out at once.
RUNS["sharded_root"] = ("seq.name=onehot", "train.strategy=fsdp")
PROTEINS_ALONE = ("pretext.name=multiview_contrast", *RUNS["cross_reference"], "train.max_steps=2")
UNSYNCHRONISED = ("optim.seq_lr_scale=0", "train.sync_batch_norm=false", "train.max_steps=1")


def job(folder: Path, name: str, world_size: int, *changes: str) -> Job:
    size = f"train.proteins_per_batch={GLOBAL_BATCH // world_size}"
    if name.startswith("residues"):
        size = f"train.residues_per_batch={240 // world_size}"
    return Job((*COMMON, size, *RUNS.get(name, ()), *changes), folder / name)


def runs_of(world_size: int) -> list[str]:
    return [name for name in RUNS if world_size < 4 or name not in NOT_BY_FOUR]


def apart(folder: Path, world_size: int) -> Job:
    return job(folder, "unsynchronised", world_size, *UNSYNCHRONISED)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with the runs of one, two and four processes."""
    folders = {size: tmp_path_factory.mktemp(f"processes-{size}") for size in (1, 2, 4)}
    for each in [*(job(folders[1], name, 1) for name in RUNS), apart(folders[1], 1)]:
        run_alone(each)
    for size in (2, 4):
        jobs = [job(folders[size], name, size) for name in runs_of(size)]
        begun = job(folders[size], "sharded", size, "train.max_steps=2")
        jobs += [begun._replace(out=folders[size] / "begun"), apart(folders[size], size)]
        if size == 2:
            noted = functools.partial(note_seeds, folders[size])
            jobs.append(job(folders[size], "proteins_alone", size, *PROTEINS_ALONE)._replace(before=noted))
        run_together(jobs, world_size=size)
    return folders


def assert_same_weights(first: Path, second: Path) -> None:
    """To 1e-5 of the largest weight of each tensor."""
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        tolerance = 1e-5 * float(tensor.abs().max()) + 1e-8
        assert torch.allclose(other[name], tensor, rtol=0, atol=tolerance), name


@pytest.mark.parametrize(
    ("name", "world_size"), [(name, world_size) for world_size in (2, 4) for name in runs_of(world_size)]
)
def test_processes_give_the_run_of_one(runs: dict[int, Path], name: str, world_size: int) -> None:
    """Losses, validation losses and final weights on the same global batches, to 1e-5."""
    alone, together = (RunFolder(runs[size] / name) for size in (1, world_size))
    assert len(alone.read_metrics()) == 3
    for one, other in zip(alone.read_metrics(), together.read_metrics(), strict=True):
        assert other.keys() - one.keys() == {"slowest_rank", "idle_percent"}
        for key in one.keys() - MEASURED:
            assert other[key] == pytest.approx(one[key], rel=1e-5, abs=1e-7), key
    assert_same_weights(alone.model, together.model)
    if not name.startswith("sharded"):
        assert_same_weights(alone.last / "model.safetensors", together.last / "model.safetensors")


def test_a_task_may_read_proteins_alone_under_cross_fusion(runs: dict[int, Path]) -> None:
    """Its negatives are those of a process, so that one process is no measure; it goes to its end."""
    lines = RunFolder(runs[2] / "proteins_alone").read_metrics()
    assert len(lines) == 2
    assert all(math.isfinite(line["valid_loss"]) for line in lines[1:])


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_sharded_run_goes_on_in_one_process(runs: dict[int, Path], world_size: int) -> None:
    """Weights and optimiser state come back from the shards of another number of processes."""
    folder = RunFolder(runs[world_size] / "begun")
    assert {path.name for path in folder.last.iterdir()} == {"checksums.json", "shards", "state.pt"}
    changes = parse_assignments(["train.max_steps=3", f"train.proteins_per_batch={GLOBAL_BATCH}"])
    resumed = resume_run(discover(), folder.path, changes=changes).run
    whole = RunFolder(runs[1] / "sharded")
    assert [line["loss"] for line in resumed.read_metrics()] == pytest.approx(
        [line["loss"] for line in whole.read_metrics()], rel=1e-5
    )
    assert_same_weights(whole.model, resumed.model)


@pytest.mark.parametrize("world_size", [2, 4])
def test_unsynchronised_statistics_are_each_process_s_own(runs: dict[int, Path], world_size: int) -> None:
    """What the switch does, and proof that the comparisons above can fail."""
    alone, apart = (RunFolder(runs[size] / "unsynchronised") for size in (1, world_size))
    losses = [[line["loss"] for line in run.read_metrics()] for run in (alone, apart)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def note_seeds(folder: Path) -> None:
    """Note what torch's own generator is seeded with in each step of this process, for dropout."""
    original = seed_step

    def seed(*arguments: int) -> None:
        original(*arguments)
        with (folder / f"seeds-{os.environ['RANK']}.txt").open("a") as file:
            file.write(f"{torch.initial_seed()}\n")

    vars(train_module)["seed_step"] = seed


def test_processes_drop_different_units(runs: dict[int, Path]) -> None:
    """Dropout would else hide the same units of every process's proteins."""
    seeds = [(runs[2] / f"seeds-{rank}.txt").read_text().split() for rank in range(2)]
    assert len(seeds[0]) == len(seeds[1]) == 2
    assert len({*seeds[0], *seeds[1]}) == 4
