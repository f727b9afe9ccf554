"""Assign proteins to the batches of all steps, as a pure function of the settings."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esmgn_core.draws import Draws, SeededDraws
from esmgn_core.errors import RunError
from esmgn_core.model.joint import TrainStep
from esmgn_core.printable import counted
from esmgn_core.protocols import Crops, ProteinDataset, lengths_of
from esmgn_core.settings import TrainTable


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Proteins of one forward pass of one process.

    Attributes:
        indices: proteins in the dataset.
        positions: their positions in the global batch, which seed their random streams.
        last: True for the last pass of its step.
    """

    indices: tuple[int, ...]
    positions: tuple[int, ...]
    last: bool = True

    def draws(self, seed: int, step: int) -> Draws:
        """Random streams of these proteins in one step."""
        return SeededDraws(seed, step, self.positions)


class Schedule(ABC):
    """Order of the training proteins.

    Every epoch is a new permutation of all proteins, divided into global batches of equal size. Groups of
    successive proteins stay together. There is no state between steps, so any step can be repeated, and the
    proteins of a step do not depend on the number of processes.

    Args:
        indices: proteins of the training set.
        group_size: number of successive proteins that stay together.
        settings: the run's ``[train]`` table.
        world_size: number of processes.

    Attributes:
        world_size: see above.
        steps_per_epoch: global batches in an epoch.
        num_steps: steps of the whole run.

    Raises:
        RunError: fewer proteins than processes.
    """

    def __init__(
        self, indices: Sequence[int], *, group_size: int, settings: TrainTable, world_size: int
    ) -> None:
        self._groups = torch.as_tensor(indices).view(-1, group_size)
        self._settings = settings
        self.world_size = world_size
        self._epoch: tuple[int, Sequence[Tensor]] | None = None
        # Every process needs a protein in every step.
        self.steps_per_epoch = min(self._batches(), len(self._groups) // world_size)
        if self.steps_per_epoch == 0:
            proteins, processes = (
                counted(len(indices), "training protein"),
                counted(world_size, "process", "processes"),
            )
            raise RunError(f"{proteins} cannot be shared by {processes}")
        planned = settings.epochs * self.steps_per_epoch
        self.num_steps = min(planned, settings.max_steps or planned)

    def epoch(self, step: int) -> int:
        """The epoch of step ``step``, both from 0."""
        return step // self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """True if ``step`` is the last one of its epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def micro_batches(self, step: int, rank: int, pieces: int = 1) -> list[MicroBatch]:
        """The passes of process ``rank`` in ``step``; all processes have the same number of passes.

        Args:
            step: number of the step, from 0.
            rank: the process.
            pieces: divides the size of passes if memory is short.
        """
        chosen, group_size = self._chosen(step), self._groups.shape[1]
        passes = self._passes(chosen, rank, pieces)
        found = []
        for number, part in enumerate(passes, 1):
            positions = (part.unsqueeze(1) * group_size + torch.arange(group_size)).flatten()
            indices = self._groups[chosen[part]].flatten()
            found.append(
                MicroBatch(tuple(indices.tolist()), tuple(positions.tolist()), last=number == len(passes))
            )
        return found

    @abstractmethod
    def _batches(self) -> int:
        """Global batches in an epoch."""

    @abstractmethod
    def _cut(self, order: Tensor) -> Sequence[Tensor]:
        """Divide the order of the groups in an epoch, int64 [G], into the groups of its steps."""

    @abstractmethod
    def _passes(self, chosen: Tensor, rank: int, pieces: int) -> Sequence[Tensor]:
        """Positions in ``chosen``, the groups of a step, for each pass of process ``rank``."""

    def _chosen(self, step: int) -> Tensor:
        epoch = self.epoch(step)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(_mixed(self._settings.seed, epoch))
            self._epoch = epoch, self._cut(torch.randperm(len(self._groups), generator=generator))
        return self._epoch[1][step % self.steps_per_epoch]


class ProteinSchedule(Schedule):
    """Batches of ``proteins_per_batch x accumulate x processes`` proteins at most."""

    @property
    def _per_pass(self) -> int:
        return max(1, self._settings.proteins_per_batch // self._groups.shape[1])

    def _batches(self) -> int:
        per_step = self._per_pass * self._settings.accumulate * self.world_size
        return math.ceil(len(self._groups) / per_step)

    def _cut(self, order: Tensor) -> Sequence[Tensor]:
        return order.tensor_split(self.steps_per_epoch)

    def _passes(self, chosen: Tensor, rank: int, pieces: int) -> Sequence[Tensor]:
        shares = torch.arange(len(chosen)).tensor_split(self.world_size)
        per_pass = max(1, self._per_pass // pieces)
        num_passes = min(math.ceil(len(shares[0]) / per_pass), len(shares[-1]))
        return shares[rank].tensor_split(num_passes)


class ResidueSchedule(Schedule):
    """Batches of about ``residues_per_batch x accumulate x processes`` residues.

    No pass has more than ``residues_per_batch`` residues. The proteins of a step are distributed by length,
    the longest first, each to the pass with the fewest residues so far (longest-processing-time rule). The
    passes of a step then have similar sizes, and every process gets short and long proteins.

    Args:
        indices, group_size, settings, world_size: as for :class:`Schedule`.
        lengths: residues that the encoder sees of each protein in ``indices``, int64 [len(indices)].

    Raises:
        RunError: a protein does not fit into a pass.
    """

    def __init__(
        self,
        indices: Sequence[int],
        lengths: Tensor,
        *,
        group_size: int,
        settings: TrainTable,
        world_size: int,
    ) -> None:
        self._sizes = lengths.view(-1, group_size).sum(1)
        self._budget = settings.residues_per_batch or 0
        longest = int(self._sizes.max()) if len(self._sizes) else 0
        if longest > self._budget:
            raise RunError(
                f"a training protein{' group' * (group_size > 1)} has {longest} residues, more than "
                f"train.residues_per_batch = {self._budget}",
                f"allow more: --set train.residues_per_batch={longest}",
                "or leave out or crop long proteins in the settings of the data or the task",
            )
        super().__init__(indices, group_size=group_size, settings=settings, world_size=world_size)

    def _batches(self) -> int:
        per_step = _FILL * self._budget * self._settings.accumulate * self.world_size
        return math.ceil(int(self._sizes.sum()) / per_step)

    def _cut(self, order: Tensor) -> Sequence[Tensor]:
        sizes = self._sizes[order].double()
        middles = sizes.cumsum(0) - sizes / 2
        borders = torch.arange(1, self.steps_per_epoch) * (sizes.sum() / self.steps_per_epoch)
        parts = order.tensor_split(torch.searchsorted(middles, borders))
        # A few very long proteins may leave a step with too few for all processes.
        if min(map(len, parts)) < self.world_size:
            return order.tensor_split(self.steps_per_epoch)
        return parts

    def _passes(self, chosen: Tensor, rank: int, pieces: int) -> Sequence[Tensor]:
        sizes, budget = self._sizes[chosen], self._budget // pieces
        most = len(chosen) // self.world_size
        num_passes = min(most, math.ceil(int(sizes.sum()) / (budget * self.world_size)))
        while True:
            bins = _dealt(sizes, num_passes * self.world_size)
            if num_passes == most or max(size for size, _ in bins) <= budget:
                break
            num_passes += 1
        # Simultaneous passes are of similar size, so that no process waits long for another.
        bins.sort(key=lambda item: (-item[0], item[1]))
        return [torch.tensor(members) for _, members in bins[rank :: self.world_size]]


_FILL = 0.98
"""Planned fill of batches; the rest leaves room to distribute proteins evenly."""


def _dealt(sizes: Tensor, num_bins: int) -> list[tuple[int, list[int]]]:
    """Distribute positions in ``sizes`` to bins of similar size; returns each bin's total and members."""
    order = torch.sort(sizes, descending=True, stable=True).indices.tolist()
    heap = [(0, number) for number in range(num_bins)]
    members: list[list[int]] = [[] for _ in range(num_bins)]
    values = sizes.tolist()
    for position in order:
        total, number = heap[0]
        members[number].append(position)
        # Count a protein without residues as 1, or it would leave its bin the emptiest and others empty.
        heapq.heapreplace(heap, (total + max(values[position], 1), number))
    return [(sum(values[p] for p in positions), sorted(positions)) for positions in members]


def build_schedule(
    dataset: ProteinDataset, settings: TrainTable, *, world_size: int, most_residues: int | None = None
) -> Schedule:
    """Build the schedule of a run's training proteins.

    Args:
        dataset: all proteins.
        settings: the run's ``[train]`` table.
        world_size: number of processes.
        most_residues: maximum number of residues of one protein that the task shows to the encoder.

    Raises:
        RunError: see :class:`ProteinSchedule` and :class:`ResidueSchedule`.
    """
    indices = dataset.split("train")
    if settings.residues_per_batch is None:
        return ProteinSchedule(
            indices, group_size=dataset.group_size, settings=settings, world_size=world_size
        )
    return ResidueSchedule(
        indices,
        encoded_lengths(dataset, most_residues)[torch.as_tensor(indices)],
        group_size=dataset.group_size,
        settings=settings,
        world_size=world_size,
    )


def max_residues(step: TrainStep) -> int | None:
    """Maximum number of residues of one protein that a cropping task shows to the encoder; else ``None``."""
    return step.task.max_residues if isinstance(step.task, Crops) else None


def encoded_lengths(dataset: ProteinDataset, most_residues: int | None) -> Tensor:
    """Maximum number of residues of each protein that the encoder sees, int64 [len(dataset)].

    Raises:
        RunError: the dataset does not know the lengths of its proteins.
    """
    lengths = lengths_of(dataset)
    if lengths is None:
        raise RunError(
            "this dataset does not know the lengths of its proteins (train.residues_per_batch)",
            "use train.proteins_per_batch instead",
        )
    encoded = torch.as_tensor(lengths, dtype=torch.int64)
    return encoded if most_residues is None else encoded.clamp(max=most_residues)


def _mixed(seed: int, number: int) -> int:
    """Hash two numbers to a 63-bit seed, by the odd multipliers of the splitmix64 generator."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 1) % 2**63


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators (used by dropout) on the CPU and the GPU for one step of one process."""
    number = _mixed(_mixed(seed, step), rank)
    # torch.manual_seed is slow: until CUDA is initialised, it records the call stack for a deferred call.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
        torch.cuda.manual_seed(number)
