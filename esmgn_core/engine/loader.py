"""Read and pack proteins ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.microbatch import ShortageError, is_shortage
from esmgn_core.engine.schedule import MicroBatch
from esmgn_core.errors import EsmgnError, PluginError, RunError
from esmgn_core.protocols import ProteinDataset, ReadsBatches

_AHEAD = 2
"""Batches that each thread reads ahead."""
_UNREADABLE = (EsmgnError, OSError, ValueError)

_Read = tuple[MicroBatch, ProteinBatch, dict[int, str]]
"""The readable part of a pass, its batch, and the reasons for unreadable proteins by index."""


@dataclass(slots=True)
class Reader:
    """Reads proteins of a dataset in threads and yields batches in the requested order.

    Threads suffice, because NumPy and torch release the interpreter lock while they gather proteins. Unlike
    worker processes they copy nothing and cannot die.

    Attributes:
        dataset: the dataset; several threads may call ``__getitem__`` at the same time.
        num_threads: 0 to read in the calling thread.
        on_unreadable: called once for each unreadable protein, with its index and the reason.
        on_failure: called when a thread failed; the calling thread then reads the batch.
    """

    dataset: ProteinDataset
    num_threads: int
    on_unreadable: Callable[[int, str], None]
    on_failure: Callable[[str], None]
    _known: set[int] = field(default_factory=set)

    def read(self, parts: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, ProteinBatch]]:
        """Yield the passes ``parts`` without unreadable proteins.

        Raises:
            RunError: no training protein can be read.
            ShortageError: memory is too short to read them.
        """
        if not self.num_threads:
            for part in parts:
                yield self._reported(self._load(part))
            return
        waiting: deque[tuple[MicroBatch, Future[_Read]]] = deque()
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="esmgn-reader")
        try:
            for part in parts:
                waiting.append((part, pool.submit(self._load, part)))
                if len(waiting) > _AHEAD * self.num_threads:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _result(self, part: MicroBatch, future: Future[_Read]) -> tuple[MicroBatch, ProteinBatch]:
        failure = future.exception()
        if failure is None or isinstance(failure, RunError | ShortageError):
            return self._reported(future.result())
        self.on_failure(f"reading ahead failed: {type(failure).__name__}: {failure}; read again")
        return self._reported(self._load(part))

    def _reported(self, read: _Read) -> tuple[MicroBatch, ProteinBatch]:
        # Report in the training thread, because observers need not be thread-safe.
        part, batch, unreadable = read
        for index, reason in unreadable.items():
            if index not in self._known:
                self._known.add(index)
                self.on_unreadable(index, reason)
        return part, batch

    def _load(self, part: MicroBatch) -> _Read:
        try:
            return self._read(part)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            names = [f"protein {index}" for index in part.indices]
            raise ShortageError(names, 0, str(error)) from None

    def _read(self, part: MicroBatch) -> _Read:
        """Read the groups of ``part`` without unreadable proteins, or the next readable group if none is."""
        if isinstance(self.dataset, ReadsBatches):
            with suppress(*_UNREADABLE):  # then read one by one, to keep the readable ones
                return part, self.dataset.batch(part.indices), {}
        size = self.dataset.group_size
        kept: list[int] = []
        proteins: list[Protein] = []
        unreadable: dict[int, str] = {}
        for first in range(0, len(part.indices), size):
            group, reasons = self._group(part.indices[first : first + size])
            unreadable |= reasons
            if group:
                kept += range(first, first + size)
                proteins += group
        if proteins:
            indices = tuple(part.indices[place] for place in kept)
        else:  # every process needs a protein in every pass
            kept = [*range(size)]
            indices, proteins = self._next_readable(part.indices[0], list(unreadable.values())[-1])
        part = replace(part, indices=indices, positions=tuple(part.positions[place] for place in kept))
        return part, ProteinBatch.from_proteins(proteins), unreadable

    def _group(self, indices: tuple[int, ...]) -> tuple[list[Protein], dict[int, str]]:
        """The proteins of a group, or none and the reason if one is unreadable."""
        group = []
        for index in indices:
            try:
                protein = self.dataset[index]
            except _UNREADABLE as error:
                return [], {index: " ".join(str(error).split()) or type(error).__name__}
            if not isinstance(protein, Protein):
                item = f"item {index} of the dataset {type(self.dataset).__name__}"
                raise PluginError(
                    f"{item} is of type {type(protein).__name__}, expected Protein",
                    "check it: esmgn plugin check PLUGIN",
                )
            group.append(protein)
        return group, {}

    def _next_readable(self, index: int, reason: str) -> tuple[tuple[int, ...], list[Protein]]:
        """The next readable group of training proteins."""
        indices, size = list(self.dataset.split("train")), self.dataset.group_size
        start = indices.index(index) if index in indices else 0
        for step in range(size, len(indices), size):
            first = (start + step) % len(indices)
            candidates = tuple(indices[first : first + size])
            group, _ = self._group(candidates)
            if group:
                return candidates, group
        raise RunError("no training protein can be read", f"last reason: {reason}")
