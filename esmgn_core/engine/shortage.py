"""What happens when a pass does not fit into memory."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import RunError
from esmgn_core.machine.files import write_atomically

_NAMED = 5


class ShortageError(Exception):
    """A pass did not fit into memory; holds what is needed to say so, and no tensors."""

    def __init__(self, names: Sequence[str], num_residues: int, reason: str) -> None:
        super().__init__(reason)
        self.names = tuple(names)
        self.num_residues = num_residues

    @classmethod
    def of(cls, batch: ProteinBatch, error: BaseException) -> ShortageError | None:
        """``error`` as a shortage while ``batch`` was in work; ``None`` if it is something else."""
        text = str(error)
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or (
            isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
        )
        return (
            cls(batch.names, batch.num_residues, text.splitlines()[0][:200] if text else "")
            if short
            else None
        )

    def __str__(self) -> str:
        more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
        names = ", ".join(self.names[:_NAMED])
        return f"out of memory with {self.num_residues:,} residues in a pass ({names}{more})"


@dataclass(slots=True)
class Pieces:
    """How finely passes are cut, for want of memory: into ``number`` pieces, a power of two.

    A shortage is recorded in the run folder, so that a run of several processes, which cannot go
    on once one of them fails, is cut more finely when it is resumed.
    """

    run: RunFolder
    number: int = 1

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
        record = {"step": step + 1, "residues": shortage.num_residues, "pieces": self.number}
        text = json.dumps({**record, "proteins": shortage.names}, indent=2)
        write_atomically(self.run.out_of_memory, text + "\n")
        if not alone:
            raise RunError(
                f"step {step + 1}: {shortage}",
                f"it is recorded in {self.run.out_of_memory}; a resumed run takes half as much at a time",
                f"go on from the last checkpoint: esmgn run --resume {self.run.path}",
            )
        free_memory()
        return f"step {step + 1}: {shortage}; passes are halved from here on, steps take the same proteins"

    def load_recorded(self) -> None:
        """Cut as finely as a shortage recorded after the last checkpoint asks for."""
        try:
            recorded = int(json.loads(self.run.out_of_memory.read_text())["pieces"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        self.number = max(self.number, recorded)


def free_memory() -> None:
    """Give back what a failed pass held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
