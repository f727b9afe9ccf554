"""Split passes that do not fit into memory."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import RunError, WriteError
from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.parse import read_record
from esmgn_core.run_folder import RunFolder

_HALVED = {
    "pieces": "passes are halved from here on, steps take the same proteins",
    "valid_pieces": "validation passes are halved from here on",
}
_NAMED = 5
_SHORT_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "ALLOC_FAILED",
)


class ShortageError(Exception):
    """A pass did not fit into memory. Holds names and sizes for the message, but no tensors."""

    def __init__(self, names: Sequence[str], num_residues: int, reason: str) -> None:
        super().__init__(reason)
        self.names = tuple(names)
        self.num_residues = num_residues

    def released(self) -> Self:
        """This error without its traceback, whose frames would keep the tensors of the failed pass."""
        self.__traceback__ = self.__context__ = None
        return self

    def __str__(self) -> str:
        more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
        names = ", ".join(self.names[:_NAMED])
        size = f"with {self.num_residues:,} residues in a pass" if self.num_residues else "reading a pass"
        return f"out of memory {size} ({names}{more})"


def is_shortage(error: BaseException) -> bool:
    """True if an error of Python, torch or a library reports that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SHORT_TEXTS)


@contextmanager
def shortages_of(batch: ProteinBatch) -> Iterator[None]:
    """Convert memory errors inside the block to a :class:`ShortageError`.

    Raises:
        ShortageError: memory ran out while ``batch`` was processed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise ShortageError(batch.names, batch.num_residues, reason) from None


@dataclass(slots=True)
class MicrobatchSplit:
    """The number of smaller passes into which each pass is split to fit into memory: a power of two.

    A shortage is recorded in the run folder. A run of several processes ends when one of them fails, and is
    split further when it is resumed.

    Attributes:
        run: the run folder.
        number: number of pieces, at least the recorded one.
        key: ``pieces`` for training passes, ``valid_pieces`` for passes over validation and test proteins.
    """

    run: RunFolder
    number: int = 1
    key: str = "pieces"

    def __post_init__(self) -> None:
        with suppress(ValueError, TypeError):
            self.number = max(self.number, int(read_record(self.run.out_of_memory).get(self.key, 1)))

    def halve(self, step: int, shortage: ShortageError, *, alone: bool) -> str:
        """Halve the size of passes from ``step``, from 0, on; returns a notice for the user.

        Raises:
            RunError: the pass is a single protein, or other processes wait for this one.
        """
        if len(shortage.names) == 1:
            raise RunError(
                f"step {step + 1}: {shortage}; a single protein is too large",
                "leave out or crop long proteins in the settings of the data or the task",
                "or keep fewer activations: --set train.activation_checkpointing=true",
            )
        self.number *= 2
        record = {"step": step + 1, "residues": shortage.num_residues, self.key: self.number}
        text = json.dumps(
            {**read_record(self.run.out_of_memory), **record, "proteins": shortage.names}, indent=2
        )
        with suppress(WriteError):  # the split stays in memory of this process
            write_atomically(self.run.out_of_memory, text + "\n")
        if not alone:
            raise RunError(
                f"step {step + 1}: {shortage}",
                f"recorded in {self.run.out_of_memory}; a resumed run halves its passes",
                f"resume from the last checkpoint: esmgn run --resume {self.run.path}",
            )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return f"step {step + 1}: {shortage}; {_HALVED[self.key]}"
