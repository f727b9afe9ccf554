"""Reading and packing proteins ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.loader import MicroBatch
from esmgn_core.engine.shortage import ShortageError, is_shortage
from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.protocols import ProteinDataset

_AHEAD = 2
"""Batches that each thread may be ahead."""
_UNREADABLE = (EsmgnError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A protein that the dataset could not give: its index, and why."""

    index: int
    reason: str


class Loaded(NamedTuple):
    """A pass of a step, without proteins that could not be read.

    Attributes:
        part: the proteins in ``batch``.
        batch: them, packed.
        last: whether this is the last pass of its step.
    """

    part: MicroBatch
    batch: ProteinBatch
    last: bool


@dataclass(slots=True)
class Reader:
    """Reads proteins of a dataset in threads, and gives them in the order they were asked for.

    Threads, not processes: proteins are gathered by NumPy and torch, which let other threads run;
    nothing is copied between processes, and no process can die.

    Attributes:
        dataset: what is read; its ``__getitem__`` may be called by several threads at a time.
        num_threads: 0 to read when the next batch is asked for.
        on_unreadable: told of each protein that could not be read, once.
        on_failure: told when a thread failed; its batch is then read by the caller.
    """

    dataset: ProteinDataset
    num_threads: int
    on_unreadable: Callable[[Unreadable], None]
    on_failure: Callable[[str], None]
    _known: set[int] = field(default_factory=set)

    def read(self, parts: Iterable[tuple[MicroBatch, bool]]) -> Iterator[Loaded]:
        """Batches of ``parts``, each with whether it is the last of its step.

        Raises:
            RunError: not one training protein can be read any more.
        """
        if not self.num_threads:
            for part, last in parts:
                yield self._told(*self._load(part), last=last)
            return
        waiting: deque[tuple[MicroBatch, bool, Future[tuple[MicroBatch, ProteinBatch, list[Unreadable]]]]]
        waiting = deque()
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="esmgn-reader")
        try:
            for part, last in parts:
                waiting.append((part, last, pool.submit(self._load, part)))
                if len(waiting) > _AHEAD * self.num_threads:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _result(
        self,
        part: MicroBatch,
        last: bool,
        future: Future[tuple[MicroBatch, ProteinBatch, list[Unreadable]]],
    ) -> Loaded:
        failure = future.exception()
        if failure is None or isinstance(failure, RunError | ShortageError):
            return self._told(*future.result(), last=last)
        self.on_failure(f"reading ahead failed: {type(failure).__name__}: {failure}; read again")
        return self._told(*self._load(part), last=last)

    def _told(
        self, part: MicroBatch, batch: ProteinBatch, unreadable: list[Unreadable], *, last: bool
    ) -> Loaded:
        for item in unreadable:
            if item.index not in self._known:
                self._known.add(item.index)
                self.on_unreadable(item)
        return Loaded(part, batch, last)

    def _load(self, part: MicroBatch) -> tuple[MicroBatch, ProteinBatch, list[Unreadable]]:
        """As :meth:`_read`; a shortage of memory names the proteins.

        Raises:
            ShortageError: there is not enough memory to read them.
        """
        try:
            return self._read(part)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            names = [f"protein {index}" for index in part.indices]
            raise ShortageError(names, 0, str(error)) from None

    def _read(self, part: MicroBatch) -> tuple[MicroBatch, ProteinBatch, list[Unreadable]]:
        """The proteins of ``part`` that can be read; a stand-in if none can.

        A group of neighbours is left out as a whole.
        """
        if (read_at_once := getattr(self.dataset, "batch", None)) is not None:
            with suppress(*_UNREADABLE):  # then one by one: the others can be read
                return part, read_at_once(part.indices), []
        size = self.dataset.group_size
        kept: list[int] = []
        proteins: list[Protein] = []
        unreadable: list[Unreadable] = []
        for first in range(0, len(part.indices), size):
            group = self._group(part.indices[first : first + size], unreadable)
            if group:
                kept += range(first, first + size)
                proteins += group
        if not proteins:  # Every process needs a protein in every pass.
            indices, proteins = self._stand_in(part.indices[0], unreadable)
            return (
                MicroBatch(indices, part.positions[:size]),
                ProteinBatch.from_proteins(proteins),
                unreadable,
            )
        if len(kept) < len(part.indices):
            part = MicroBatch(tuple(part.indices[i] for i in kept), tuple(part.positions[i] for i in kept))
        return part, ProteinBatch.from_proteins(proteins), unreadable

    def _group(self, indices: tuple[int, ...], unreadable: list[Unreadable]) -> list[Protein]:
        group = []
        for index in indices:
            try:
                group.append(self.dataset[index])
            except _UNREADABLE as error:
                unreadable.append(Unreadable(index, " ".join(str(error).split()) or type(error).__name__))
                return []
        return group

    def _stand_in(self, index: int, unreadable: list[Unreadable]) -> tuple[tuple[int, ...], list[Protein]]:
        """The next group of training proteins that can be read."""
        indices, size = list(self.dataset.split("train")), self.dataset.group_size
        start = indices.index(index) if index in indices else 0
        for step in range(size, len(indices), size):
            first = (start + step) % len(indices)
            candidates = tuple(indices[first : first + size])
            if group := self._group(candidates, []):
                return candidates, group
        raise RunError(
            "not one training protein can be read any more", f"the last reason: {unreadable[-1].reason}"
        )
