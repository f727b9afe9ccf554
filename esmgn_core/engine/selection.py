"""The record of the best encoder: its step, and the value that selected it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from safetensors import SafetensorError, safe_open


class Selection(NamedTuple):
    """Selection of the encoder in ``model.safetensors``.

    Attributes:
        step: optimiser step of the encoder.
        name: name of the logged value that selected it, such as ``valid_loss`` or ``valid_f_max``.
        value: the value at this step.
    """

    step: int
    name: str
    value: float

    def metadata(self) -> dict[str, str]:
        """The record for the header of ``model.safetensors``."""
        return {"step": str(self.step), "selected_by": self.name, "value": repr(self.value)}

    @classmethod
    def recorded(cls, model: Path) -> Self | None:
        """Read the record from a ``model.safetensors``; ``None`` if it is missing or damaged."""
        metadata = read_metadata(model)
        try:
            return cls(int(metadata["step"]), metadata["selected_by"], float(metadata["value"]))
        except (KeyError, ValueError):
            return None


def read_metadata(path: Path) -> Mapping[str, str]:
    """The metadata in the header of a safetensors file; empty if it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
