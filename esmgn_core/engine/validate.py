"""Divide validation and test proteins into passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws
from esmgn_core.engine.distributed import World
from esmgn_core.engine.loader import Reader
from esmgn_core.engine.microbatch import MicrobatchSplit, shortages_of
from esmgn_core.engine.schedule import MicroBatch, encoded_lengths, max_residues
from esmgn_core.engine.sharding import is_sharded
from esmgn_core.model.joint import TrainStep
from esmgn_core.settings import TrainTable

_STEP = 2**63
"""Step number for the random streams of evaluations: always the same, and not a training step."""


class EvaluationPass(NamedTuple):
    """A pass over validation or test proteins.

    Attributes:
        positions: positions of the proteins among all evaluated ones.
        batch: the proteins, on the device of the model.
        draws: their random streams.
        counts: False for padding passes, whose results are discarded: additional passes of a sharded model,
            and replacements of passes without a readable protein.
    """

    positions: Sequence[int]
    batch: ProteinBatch
    draws: Draws
    counts: bool = True


@dataclass(slots=True)
class Evaluation:
    """Divides validation and test proteins into passes and yields those of this process.

    Attributes:
        reader: reads the proteins.
        step: encoder and task.
        train: the run's ``[train]`` table.
        world: this process among all.
        split: splits passes to fit into memory; ``None`` for whole passes.
    """

    reader: Reader
    step: TrainStep
    train: TrainTable
    world: World
    split: MicrobatchSplit | None = None

    def passes(self, indices: Sequence[int]) -> Iterator[EvaluationPass]:
        """Yield the passes of this process; all processes together have each readable protein once."""
        wanted, parts = set(indices), self._parts(indices)
        own = parts[self.world.rank :: self.world.size]
        num_own = len(own)
        # With sharded weights every process must run the same number of passes. The first has the most, so
        # the others repeat some of its passes.
        if is_sharded(self.step):
            own += parts[:: self.world.size][num_own:]
        for number, (part, batch) in enumerate(self.reader.read(own)):
            draws = part.draws(self.train.seed, _STEP)
            counts = number < num_own and wanted.issuperset(part.indices)
            with shortages_of(batch):
                batch = batch.to(self.world.device)
            yield EvaluationPass(part.positions, batch, draws, counts)

    def _parts(self, indices: Sequence[int]) -> list[MicroBatch]:
        dataset, lengths = self.reader.dataset, None
        if self.train.residues_per_batch is not None:
            lengths = encoded_lengths(dataset, max_residues(self.step))
        pieces = self.split.number if self.split else 1
        return evaluation_batches(indices, self.train, lengths, group_size=dataset.group_size, pieces=pieces)


def evaluation_batches(
    indices: Sequence[int],
    settings: TrainTable,
    lengths: Tensor | None = None,
    *,
    group_size: int = 1,
    pieces: int = 1,
) -> list[MicroBatch]:
    """Divide proteins into batches, in order.

    Args:
        indices: the proteins.
        settings: the run's ``[train]`` table.
        lengths: encoded residues of every protein of the dataset; needed for ``residues_per_batch``.
        group_size: number of successive proteins that stay together.
        pieces: divides the size of batches if memory is short.
    """
    starts = [0]
    if lengths is None or settings.residues_per_batch is None:
        size = max(1, settings.proteins_per_batch // pieces // group_size) * group_size
        starts = [*range(0, len(indices), size)]
    else:
        budget, total = settings.residues_per_batch // pieces, 0
        for position in range(0, len(indices), group_size):
            residues = int(lengths[torch.as_tensor(indices[position : position + group_size])].sum())
            total += residues
            if total > budget and position > starts[-1]:
                starts.append(position)
                total = residues
    return [
        MicroBatch(tuple(indices[place] for place in range(first, end)), tuple(range(first, end)))
        for first, end in pairwise([*starts, len(indices)])
        if end > first
    ]
