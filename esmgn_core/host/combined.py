"""Several pretext tasks trained as one: ``--pretext residue_type+distance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, create_model
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput, WeightedOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.host.components import build_component
from esmgn_core.protocols import Crops, GraphBuilder, PretextTask, ShowsWhole
from esmgn_core.settings import ComponentSettings, settings_class
from esmgn_core.spec import ComponentSpec

_WEIGHTS = "weights"


class Combined(nn.Module):
    """The weighted sum of the losses of several pretext tasks on the same proteins.

    Each part has its own views of the batch, which are encoded separately. Its random stream is named after
    it, so adding or removing a part does not change the views of the others. :func:`combination` creates
    the class of a combination with its settings.
    """

    Settings: ClassVar[type[ComponentSettings]]
    classes: ClassVar[Mapping[str, tuple[ComponentSpec, type]]]

    def __init__(self, settings: Any, *, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.tasks: dict[str, PretextTask] = {
            name: build_component(spec, task, getattr(settings, name), encoder_dim=encoder_dim)
            for name, (spec, task) in self.classes.items()
        }
        for name, task in self.tasks.items():
            self.add_module(name, task)  # type: ignore[arg-type]  # checked by build_component

    @property
    def max_residues(self) -> int | None:
        """Maximum number of residues of one protein in a view of any part; ``None`` for no maximum."""
        limits = [
            (task.max_residues if isinstance(task, Crops) else None) or 0 for task in self.tasks.values()
        ]
        return max(limits) if all(limits) else None

    @property
    def couples_proteins(self) -> bool:
        """Whether the loss of any part compares the proteins of a batch with one another."""
        return any(getattr(task, "couples_proteins", False) for task in self.tasks.values())

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """True for proteins whose whole, unmasked sequence is in the views of at least one part, bool [B]."""
        whole = torch.zeros_like(lengths, dtype=torch.bool)
        for task in self.tasks.values():
            whole |= task.shows_whole(lengths) if isinstance(task, ShowsWhole) else torch.ones_like(whole)
        return whole

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """The views of all parts, each marked with the name of its part."""
        return tuple(
            replace(view, part=name)
            for name, task in self.tasks.items()
            for view in task.views(batch, build_graph, draws.stream(name))
        )

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """The weighted sum of the losses, and the output of every part."""
        parts = {name: self._part(name, views, encodings) for name in self.tasks}
        total = torch.stack([part.weight * part.output.loss for part in parts.values()]).sum()
        return TaskOutput(total, num_samples=len(views[0].batch), parts=parts)

    def _part(self, name: str, views: Sequence[View], encodings: Sequence[Encoding]) -> WeightedOutput:
        own = [pair for pair in zip(views, encodings, strict=True) if pair[0].part == name]
        output = self.tasks[name].loss([view for view, _ in own], [encoding for _, encoding in own])
        return WeightedOutput(getattr(self.settings.weights, name), output)


def combination(classes: Mapping[str, tuple[ComponentSpec, type]]) -> type[Combined]:
    """Create the class that trains these tasks together, with one table of settings for each.

    Args:
        classes: declaration and class of each part, by the name of its table.

    Raises:
        PluginError: a part has no valid ``Settings``.
    """
    weights: dict[str, Any] = {
        name: (float, Field(1.0, gt=0, description=f"Weight of the loss of {name}.")) for name in classes
    }
    tables: dict[str, Any] = {
        _WEIGHTS: (
            table := create_model("Weights", __base__=ComponentSettings, **weights),
            Field(table(), description="Weight of each part's loss in the sum."),
        )
    }
    for name, (spec, task) in classes.items():
        model = settings_class(spec, task)
        tables[name] = (model, Field(model(), description=f"{spec.summary}; see: esmgn show {name}"))
    settings = create_model("Settings", __base__=ComponentSettings, **tables)
    return type("Combined", (Combined,), {"Settings": settings, "classes": dict(classes)})
