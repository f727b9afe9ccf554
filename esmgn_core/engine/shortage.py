"""What happens when a pass does not fit into memory."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import RunError, WriteError
from esmgn_core.machine.files import write_atomically
from esmgn_core.parse import parse_json

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
    """A pass did not fit into memory; holds what is needed to say so, and no tensors."""

    def __init__(self, names: Sequence[str], num_residues: int, reason: str) -> None:
        super().__init__(reason)
        self.names = tuple(names)
        self.num_residues = num_residues

    @classmethod
    def of(cls, batch: ProteinBatch, error: BaseException) -> ShortageError | None:
        """``error`` as a shortage while ``batch`` was in work; ``None`` if it is something else."""
        if not is_shortage(error):
            return None
        return cls(batch.names, batch.num_residues, str(error).partition("\n")[0][:200])

    def __str__(self) -> str:
        more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
        names = ", ".join(self.names[:_NAMED])
        size = f"with {self.num_residues:,} residues in a pass" if self.num_residues else "reading a pass"
        return f"out of memory {size} ({names}{more})"


def is_shortage(error: BaseException) -> bool:
    """True if an error reports that memory could not be had, whoever raised it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SHORT_TEXTS)


@contextmanager
def shortages_of(batch: ProteinBatch) -> Iterator[None]:
    """Raise a :class:`ShortageError` in place of errors of memory inside the block.

    Raises:
        ShortageError: memory was short while ``batch`` was in work.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if shortage := ShortageError.of(batch, error):
            raise shortage from None
        raise


@dataclass(slots=True)
class MicrobatchSplit:
    """How finely passes are cut, for want of memory: into ``number`` pieces, a power of two.

    A shortage is recorded in the run folder, so that a run of several processes, which cannot go
    on once one of them fails, is cut more finely when it is resumed.

    Attributes:
        run: the run folder.
        number: pieces.
        key: ``pieces`` of training passes, ``valid_pieces`` of those over validation and test proteins.
    """

    run: RunFolder
    number: int = 1
    key: str = "pieces"

    def halve(self, step: int, shortage: ShortageError, *, alone: bool) -> str:
        """Cut passes to half their size from ``step``, from 0, on; what to tell the user.

        Raises:
            RunError: nothing is left to cut, or other processes wait for this one.
        """
        if len(shortage.names) == 1:
            raise RunError(
                f"step {step + 1}: {shortage}; a single protein is too much",
                "leave long proteins out, or crop them, in the settings of the data or the task",
                "or keep less: --set train.activation_checkpointing=true",
            )
        self.number *= 2
        record = {"step": step + 1, "residues": shortage.num_residues, self.key: self.number}
        text = json.dumps({**self._recorded(), **record, "proteins": shortage.names}, indent=2)
        with suppress(WriteError):  # this process remembers it anyway
            write_atomically(self.run.out_of_memory, text + "\n")
        if not alone:
            raise RunError(
                f"step {step + 1}: {shortage}",
                f"it is recorded in {self.run.out_of_memory}; a resumed run takes half as much at a time",
                f"go on from the last checkpoint: esmgn run --resume {self.run.path}",
            )
        free_memory()
        return f"step {step + 1}: {shortage}; {_HALVED[self.key]}"

    def load_recorded(self) -> None:
        """Cut as finely as a shortage recorded after the last checkpoint asks for."""
        with suppress(ValueError, TypeError):
            self.number = max(self.number, int(self._recorded().get(self.key, 1)))

    def _recorded(self) -> dict[str, Any]:
        try:
            record = parse_json(self.run.out_of_memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def free_memory() -> None:
    """Give back what a failed pass held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
