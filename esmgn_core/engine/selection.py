"""Which encoder of a run was kept as the best, and the value that selected it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from safetensors import SafetensorError, safe_open


class Selection(NamedTuple):
    """The encoder in ``model.safetensors``.

    Attributes:
        step: the optimiser step after which it was kept.
        name: the logged value that selected it, such as ``valid_loss`` or ``valid_f_max``.
        value: that value at this step.
    """

    step: int
    name: str
    value: float

    def metadata(self) -> dict[str, str]:
        """The record in the header of ``model.safetensors``, written together with the weights."""
        return {"step": str(self.step), "selected_by": self.name, "value": repr(self.value)}

    @classmethod
    def recorded(cls, model: Path) -> Self | None:
        """The record in a ``model.safetensors``; ``None`` if the file or the record is missing or damaged."""
        metadata = read_metadata(model)
        try:
            return cls(int(metadata["step"]), metadata["selected_by"], float(metadata["value"]))
        except (KeyError, ValueError):
            return None


def read_metadata(path: Path) -> Mapping[str, str]:
    """The texts in the header of a safetensors file; empty if it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
