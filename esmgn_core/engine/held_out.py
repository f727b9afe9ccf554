"""Which held-out proteins a process runs in which pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws
from esmgn_core.engine.distributed import World
from esmgn_core.engine.loader import MicroBatch, encoded_lengths, max_residues
from esmgn_core.engine.reader import Reader
from esmgn_core.engine.sharding import is_sharded
from esmgn_core.engine.shortage import MicrobatchSplit, shortages_of
from esmgn_core.model import TrainStep
from esmgn_core.settings import TrainTable

_STEP = 2**63
"""Step number of the draws for held-out proteins: the same at every pass, used by no training step."""


class HeldOut(NamedTuple):
    """A pass over held-out proteins.

    Attributes:
        positions: their places among all that are asked for.
        batch: the proteins, on the device of the model.
        draws: their random streams.
        counts: whether what comes of it counts; other proteins are run where all processes have to
            take part in every pass, or where none of a pass can be read.
    """

    positions: Sequence[int]
    batch: ProteinBatch
    draws: Draws
    counts: bool = True


@dataclass(slots=True)
class HeldOutPasses:
    """Calls with the indices of held-out proteins give this process's share of their passes.

    Attributes:
        reader: reads them.
        step: what they are run through.
        train: the run's ``[train]`` table.
        world: this process among all.
        split: into how many smaller ones passes are split to fit into memory; ``None`` for whole ones.
    """

    reader: Reader
    step: TrainStep
    train: TrainTable
    world: World
    split: MicrobatchSplit | None = None

    def __call__(self, indices: Sequence[int]) -> Iterator[HeldOut]:
        """Passes of this process; all of them together have each protein that can be read once."""
        asked, parts = set(indices), self._parts(indices, self.world)
        num_own = len(parts)
        if is_sharded(self.step):
            most = self._parts(indices, replace(self.world, rank=0))
            parts += most[num_own:]
        for number, (part, batch) in enumerate(self.reader.read(parts)):
            draws = part.draws(self.train.seed, _STEP)
            counts = number < num_own and asked.issuperset(part.indices)
            with shortages_of(batch):
                batch = batch.to(self.world.device)
            yield HeldOut(part.positions, batch, draws, counts)

    def _parts(self, indices: Sequence[int], world: World) -> list[MicroBatch]:
        lengths = None
        if self.train.residues_per_batch is not None:
            lengths = encoded_lengths(self.reader.dataset, max_residues(self.step))
        size = self.reader.dataset.group_size
        return [*held_out_batches(indices, self._train, world, lengths, group_size=size)]

    @property
    def _train(self) -> TrainTable:
        """Settings with passes of a fraction of their size."""
        proteins, residues = self.train.proteins_per_batch, self.train.residues_per_batch
        pieces = self.split.number if self.split else 1
        smaller = {
            "proteins_per_batch": max(1, proteins // pieces),
            "residues_per_batch": residues and max(1, residues // pieces),
        }
        return self.train.model_copy(update=smaller)


def held_out_batches(
    indices: Sequence[int],
    settings: TrainTable,
    world: World,
    lengths: Tensor | None = None,
    *,
    group_size: int = 1,
) -> Iterator[MicroBatch]:
    """Held-out proteins in batches; every process takes its share, none takes a protein twice.

    Args:
        indices: the held-out proteins.
        settings: the run's ``[train]`` table.
        world: this process among all.
        lengths: residues that the encoder sees of every protein of the dataset; needed where
            batches are measured in residues.
        group_size: neighbours that stay together.
    """
    for number, part in enumerate(_held_out_parts(indices, settings, lengths, group_size)):
        if number % world.size == world.rank:
            yield MicroBatch(tuple(indices[position] for position in part), tuple(part))


def _held_out_parts(
    indices: Sequence[int], settings: TrainTable, lengths: Tensor | None, group_size: int
) -> Iterator[range]:
    """Positions in ``indices`` of each batch."""
    if lengths is None or settings.residues_per_batch is None:
        size = max(1, settings.proteins_per_batch // group_size) * group_size
        yield from (range(first, min(first + size, len(indices))) for first in range(0, len(indices), size))
        return
    first, total = 0, 0
    for position in range(0, len(indices), group_size):
        residues = int(lengths[torch.as_tensor(indices[position : position + group_size])].sum())
        total += residues
        if total > settings.residues_per_batch and position > first:
            yield range(first, position)
            first, total = position, residues
    if indices:
        yield range(first, len(indices))
