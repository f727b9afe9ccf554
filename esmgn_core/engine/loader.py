"""Which proteins are in which batch of which step: a pure function of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws, SeededDraws
from esmgn_core.engine.distributed import World
from esmgn_core.errors import RunError
from esmgn_core.protocols import ProteinDataset
from esmgn_core.settings import TrainTable

VALIDATION_STEP = 2**63
"""Step number of the draws for held-out proteins: the same at every pass, used by no training step."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Proteins of one forward pass of one process.

    Attributes:
        indices: proteins in the dataset.
        positions: their positions in the global batch, which name their random streams.
    """

    indices: tuple[int, ...]
    positions: tuple[int, ...]

    def collate(self, dataset: ProteinDataset) -> ProteinBatch:
        """Pack the proteins."""
        return ProteinBatch.from_proteins([dataset[index] for index in self.indices])

    def draws(self, seed: int, step: int) -> Draws:
        """Random streams of these proteins in one step."""
        return SeededDraws(seed, step, self.positions)


class Schedule:
    """Order of the training proteins.

    Every epoch is a new permutation of all proteins, cut into as few global batches of equal size
    as hold at most ``proteins_per_batch x accumulate x processes`` proteins each. Groups of
    neighbouring proteins stay together. Nothing is kept between steps, so that any step of any run
    can be repeated.

    Args:
        indices: proteins of the training split.
        group_size: neighbours that stay together.
        settings: the run's ``[train]`` table.
        world_size: number of processes.

    Raises:
        RunError: fewer proteins than processes.
    """

    def __init__(
        self, indices: Sequence[int], *, group_size: int, settings: TrainTable, world_size: int
    ) -> None:
        self._groups = torch.tensor(indices).view(-1, group_size)
        self._seed = settings.seed
        self._world_size = world_size
        self._per_pass = max(1, settings.proteins_per_batch // group_size)
        per_step = self._per_pass * settings.accumulate * world_size
        # Every process needs a protein in every step.
        self.steps_per_epoch = min(-(-len(self._groups) // per_step), len(self._groups) // world_size)
        if self.steps_per_epoch == 0:
            raise RunError(f"{len(indices)} training proteins cannot be shared by {world_size} processes")
        planned = settings.epochs * self.steps_per_epoch
        self.num_steps = min(planned, settings.max_steps or planned)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, that step ``step``, from 0, belongs to."""
        return step // self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether ``step`` is the last of its epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def micro_batches(self, step: int, rank: int) -> list[MicroBatch]:
        """What process ``rank`` runs in ``step``; every process gets equally many."""
        generator = torch.Generator().manual_seed(_mixed(self._seed, self.epoch(step)))
        order = torch.randperm(len(self._groups), generator=generator)
        chosen = order.tensor_split(self.steps_per_epoch)[step % self.steps_per_epoch]
        shares = torch.arange(len(chosen)).tensor_split(self._world_size)
        num_passes = min(-(-len(shares[0]) // self._per_pass), len(shares[-1]))
        return [self._micro_batch(chosen, part) for part in shares[rank].tensor_split(num_passes)]

    def _micro_batch(self, chosen: torch.Tensor, part: torch.Tensor) -> MicroBatch:
        group_size = self._groups.shape[1]
        positions = (part.unsqueeze(1) * group_size + torch.arange(group_size)).flatten()
        return MicroBatch(tuple(self._groups[chosen[part]].flatten().tolist()), tuple(positions.tolist()))


def held_out_batches(indices: Sequence[int], settings: TrainTable, world: World) -> Iterator[MicroBatch]:
    """Held-out proteins in batches; every process takes its share, none takes a protein twice."""
    size = settings.proteins_per_batch
    for first in range(world.rank * size, len(indices), world.size * size):
        part = range(first, min(first + size, len(indices)))
        yield MicroBatch(tuple(indices[position] for position in part), tuple(part))


def _mixed(seed: int, number: int) -> int:
    """One 63-bit seed from two numbers."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 1) % 2**63


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's own generators (dropout) for one step of one process."""
    torch.manual_seed(_mixed(_mixed(seed, step), rank))
