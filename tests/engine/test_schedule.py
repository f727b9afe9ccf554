"""Which proteins each step, pass and process gets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from esmgn_core.draws import SeededDraws
from esmgn_core.engine.distributed import World
from esmgn_core.engine.loader import Reader
from esmgn_core.engine.schedule import (
    ProteinSchedule,
    ResidueSchedule,
    Schedule,
    encoded_lengths,
)
from esmgn_core.engine.validate import Evaluation, evaluation_batches
from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.settings import TrainTable

from .conftest import Start, small_config


def schedule(num_proteins: int, *, world_size: int = 1, group_size: int = 1, **train: int) -> Schedule:
    settings = TrainTable(**{"proteins_per_batch": 4, "epochs": 2, **train})
    return ProteinSchedule(
        range(num_proteins), group_size=group_size, settings=settings, world_size=world_size
    )


def step_of(plan: Schedule, step: int, world_size: int = 1) -> dict[int, int]:
    """Position in the global batch -> protein, over all processes and passes of a step."""
    parts = [part for rank in range(world_size) for part in plan.micro_batches(step, rank)]
    pairs = [pair for part in parts for pair in zip(part.positions, part.indices, strict=True)]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def test_an_epoch_visits_every_protein_once() -> None:
    plan = schedule(19)
    assert plan.steps_per_epoch == 5
    visited = [index for step in range(5) for index in step_of(plan, step).values()]
    assert sorted(visited) == list(range(19))


@pytest.mark.parametrize("num_proteins", [3, 4, 5, 9, 17, 40])
def test_batches_of_an_epoch_are_as_large_as_each_other(num_proteins: int) -> None:
    """No small batch is left over at the end, whose statistics would be poor."""
    plan = schedule(num_proteins)
    sizes = [len(step_of(plan, step)) for step in range(plan.steps_per_epoch)]
    assert sum(sizes) == num_proteins
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1


def test_epochs_and_seeds_have_different_orders() -> None:
    plan = schedule(40)
    orders = {tuple(step_of(plan, step).values()) for step in (0, plan.steps_per_epoch)}
    orders.add(tuple(step_of(schedule(40, seed=1), 0).values()))
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("world_size", "accumulate", "per_pass"), [(2, 1, 4), (4, 1, 2), (2, 2, 2), (1, 4, 2)]
)
def test_global_batches_do_not_depend_on_how_they_are_split(
    world_size: int, accumulate: int, per_pass: int
) -> None:
    whole = schedule(37, proteins_per_batch=8)
    split = schedule(37, world_size=world_size, accumulate=accumulate, proteins_per_batch=per_pass)
    assert split.num_steps == whole.num_steps
    for step in range(whole.num_steps):
        assert step_of(split, step, world_size) == step_of(whole, step)


@pytest.mark.parametrize("num_proteins", range(3, 30))
def test_every_process_runs_equally_many_passes_and_none_is_empty(num_proteins: int) -> None:
    """Otherwise synchronised statistics would wait for ever."""
    plan = schedule(num_proteins, world_size=3, accumulate=2, proteins_per_batch=2)
    for step in range(plan.steps_per_epoch):
        passes = [plan.micro_batches(step, rank) for rank in range(3)]
        assert len({len(parts) for parts in passes}) == 1
        assert all(part.indices for part in itertools.chain(*passes))


def test_pairs_stay_together() -> None:
    plan = schedule(20, group_size=2)
    for step in range(plan.steps_per_epoch):
        for part in plan.micro_batches(step, 0):
            first, second = part.indices[::2], part.indices[1::2]
            assert [index + 1 for index in first] == list(second)
            assert all(index % 2 == 0 for index in first)


def test_max_steps_ends_a_run_early_and_only_early() -> None:
    assert schedule(19, max_steps=3).num_steps == 3
    assert schedule(19, max_steps=300).num_steps == 10


def test_too_few_proteins_for_the_processes() -> None:
    with pytest.raises(RunError, match="2 training proteins cannot be shared by 3 processes"):
        schedule(2, world_size=3)


def residue_schedule(
    lengths: Sequence[int], *, world_size: int = 1, group_size: int = 1, **train: int
) -> Schedule:
    settings = TrainTable(**{"residues_per_batch": 1000, "epochs": 2, **train})
    indices, sizes = range(len(lengths)), torch.tensor(lengths)
    return ResidueSchedule(indices, sizes, group_size=group_size, settings=settings, world_size=world_size)


def made_up_lengths(count: int, longest: int = 700) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(30, longest + 1, (count,), generator=generator).tolist()


def test_no_pass_has_more_residues_than_allowed_and_passes_are_nearly_full() -> None:
    """At least 95 % of the allowed residues are used where proteins are small beside a pass."""
    lengths = made_up_lengths(2000, longest=300)
    plan = residue_schedule(lengths, world_size=2, residues_per_batch=4000)
    sizes = [
        sum(lengths[index] for index in part.indices)
        for step in range(plan.steps_per_epoch)
        for rank in range(2)
        for part in plan.micro_batches(step, rank)
    ]
    assert max(sizes) <= 4000
    assert sum(sizes) == sum(lengths)
    assert sum(sizes) / (4000 * len(sizes)) >= 0.95


def test_processes_get_equally_many_residues_in_every_pass() -> None:
    lengths = made_up_lengths(2000, longest=300)
    plan = residue_schedule(lengths, world_size=4, residues_per_batch=4000)
    for step in range(plan.steps_per_epoch):
        ranks = [plan.micro_batches(step, rank) for rank in range(4)]
        for parts in zip(*ranks, strict=True):
            sizes = [sum(lengths[index] for index in part.indices) for part in parts]
            assert min(sizes) >= 0.98 * max(sizes)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_batches_of_residues_do_not_depend_on_how_they_are_split(world_size: int) -> None:
    lengths = made_up_lengths(300)
    whole = residue_schedule(lengths, residues_per_batch=4000)
    split = residue_schedule(lengths, world_size=world_size, residues_per_batch=4000 // world_size)
    assert split.num_steps == whole.num_steps
    for step in range(whole.num_steps):
        assert step_of(split, step, world_size) == step_of(whole, step)


@pytest.mark.parametrize("count", range(4, 24, 3))
def test_every_process_has_a_protein_in_every_pass_of_residues(count: int) -> None:
    plan = residue_schedule(made_up_lengths(count), world_size=3, accumulate=2)
    for step in range(plan.steps_per_epoch):
        passes = [plan.micro_batches(step, rank) for rank in range(3)]
        assert len({len(parts) for parts in passes}) == 1
        assert all(part.indices for part in itertools.chain(*passes))


@pytest.mark.parametrize("plan", [schedule(64, proteins_per_batch=16), residue_schedule([50] * 64)])
def test_pieces_take_the_same_proteins_in_smaller_passes(plan: Schedule) -> None:
    whole = plan.micro_batches(0, 0)
    pieces = plan.micro_batches(0, 0, pieces=4)
    assert max(len(part.indices) for part in pieces) <= max(len(part.indices) for part in whole) / 4 + 1
    together = [pair for part in pieces for pair in zip(part.positions, part.indices, strict=True)]
    assert dict(together) == step_of(plan, 0)


def test_pairs_stay_together_where_residues_are_counted() -> None:
    plan = residue_schedule(made_up_lengths(40, longest=200), group_size=2)
    for part in plan.micro_batches(0, 0):
        assert [index + 1 for index in part.indices[::2]] == list(part.indices[1::2])


def test_a_protein_that_fits_into_no_pass_is_an_error_with_the_remedy() -> None:
    with pytest.raises(RunError) as caught:
        residue_schedule([100, 1200])
    assert str(caught.value).splitlines()[:2] == [
        "a training protein has 1200 residues, more than train.residues_per_batch = 1000",
        "  allow more: --set train.residues_per_batch=1200",
    ]


def test_lengths_are_those_the_task_shows(start: Start) -> None:
    """Crops of 10 residues, eight in a pass: 12 proteins are two steps."""
    run = start("pretext.crop_length=10", "train.residues_per_batch=80", "train.epochs=1").run
    assert len(run.read_metrics()) == 2


def test_whole_proteins_count_with_all_their_residues() -> None:
    dataset = cast(Any, SimpleNamespace(lengths=[70, 300]))
    assert encoded_lengths(dataset, None).tolist() == [70, 300]
    assert encoded_lengths(dataset, 100).tolist() == [70, 100]


def test_a_dataset_without_lengths_is_an_error() -> None:
    with pytest.raises(RunError, match="does not know the lengths"):
        encoded_lengths(cast(Any, [1, 2]), None)


def test_validation_batches_keep_to_the_allowed_residues() -> None:
    lengths = torch.tensor(made_up_lengths(50))
    settings = TrainTable(residues_per_batch=1000)
    parts = [
        part.indices
        for rank in range(2)
        for part in evaluation_batches(range(50), settings, lengths)[rank::2]
    ]
    assert sorted(itertools.chain(*parts)) == list(range(50))
    assert max(int(lengths[list(part)].sum()) for part in parts) <= 1000


@pytest.mark.parametrize("num_proteins", [0, 1, 7, 16])
def test_validation_proteins_are_seen_once_over_all_processes(num_proteins: int) -> None:
    settings = TrainTable(proteins_per_batch=3)
    seen = [
        index
        for rank in range(2)
        for part in evaluation_batches(range(num_proteins), settings)[rank::2]
        for index in part.indices
    ]
    assert sorted(seen) == list(range(num_proteins))


def test_validation_draws_are_those_of_no_training_step(start: Start) -> None:
    """The same at every validation, and unlike those that a protein gets in training."""
    train = TrainTable(proteins_per_batch=4)
    run = start("train.max_steps=1")
    dataset = resolve(discover(), small_config()).dataset()
    reader = Reader(dataset, 0, lambda *_: None, lambda _: None)
    step = cast(Any, SimpleNamespace(parameters=lambda: iter(())))
    evaluation = Evaluation(reader, step, train, World(torch.device("cpu")))
    counts = torch.tensor([8] * 3)
    first, again = (next(evaluation.passes([0, 1, 2])).draws.uniform(counts) for _ in range(2))
    assert torch.equal(first, again)
    for number in range(run.num_steps + 20):
        assert not torch.equal(SeededDraws(train.seed, number, [0, 1, 2]).uniform(counts), first)
