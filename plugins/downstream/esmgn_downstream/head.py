"""Base classes of downstream tasks: their settings, prediction head, and cutting of long proteins."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.crop import window_mask
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_core.settings import ComponentSettings


class HeadSettings(ComponentSettings):
    """Settings shared by all downstream tasks."""

    num_layers: int = Field(3, ge=1)
    """Linear layers of the head; hidden layers are as wide as its input."""
    batch_norm: bool = False
    """Batch normalisation in the hidden layers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of hidden units dropped in training."""
    max_length: int = Field(0, ge=0)
    """Training proteins are cut to this many residues; 0 for whole proteins."""
    test_max_length: int = Field(0, ge=0)
    """Validation and test proteins are cut to this many residues; 0 for whole proteins."""

    @classmethod
    def original(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The original's settings: validation and test proteins are cut like training proteins."""
        longest = values.get("max_length", 0)
        return super().original(values) | ({"test_max_length": longest} if longest else {})


class MLP(nn.Sequential):
    """Linear layers with ReLU between them. Hidden layers are as wide as the input.

    Shapes: [P, input_dim] -> [P, output_dim].
    """

    def __init__(self, input_dim: int, output_dim: int, settings: HeadSettings) -> None:
        widths = [*[input_dim] * settings.num_layers, output_dim]
        layers: list[nn.Module] = []
        for first, second in pairwise(widths):
            if layers:
                layers += [nn.BatchNorm1d(first)] * settings.batch_norm
                layers.append(nn.ReLU())
                layers += [nn.Dropout(settings.dropout)] * (settings.dropout > 0)
            layers.append(nn.Linear(first, second))
        super().__init__(*layers)


class HeadedTask(nn.Module):
    """A downstream task whose only view is the batch, with long proteins cut."""

    reads_graph = False
    settings: HeadSettings

    @property
    def max_residues(self) -> int | None:
        """Largest number of residues of a protein that the encoder sees; ``None`` for no limit."""
        limits = (self.settings.max_length, self.settings.test_max_length)
        return max(limits) if all(limits) else None

    def views(
        self,
        batch: ProteinBatch,
        build_graph: GraphBuilder,
        draws: Draws,  # noqa: ARG002 - nothing is drawn
    ) -> tuple[View, ...]:
        """One view: the batch, with proteins cut to ``max_length`` or ``test_max_length`` residues."""
        longest = self.settings.max_length if self.training else self.settings.test_max_length
        if longest and bool((batch.lengths > longest).any()):
            batch = batch.select(window_mask(batch, self.window_starts(batch, longest), longest))
        return (View(batch, build_graph(batch), {}),)

    def window_starts(self, batch: ProteinBatch, max_length: int) -> Tensor:  # noqa: ARG002 - for subclasses
        """Position of the first residue to keep of each protein, int64 [B]; here 0."""
        return torch.zeros_like(batch.lengths)


class ProteinTask(HeadedTask):
    """A downstream task whose head reads the protein representation, with one output per target."""

    group_size = 1

    def __init__(self, settings: HeadSettings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__()
        self.settings = settings
        self.label_dim = num_targets
        self.head = MLP(encoder_dim, num_targets, settings)

    def prepare(self, labels: Tensor) -> None:
        """Do nothing: this task needs no statistics of the labels."""

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:  # noqa: ARG002 - part of the contract
        """Outputs of the head, float32 [B, T]; logits for classes."""
        outputs: Tensor = self.head(encoding.protein)
        return outputs.float()


def known_labels(batch: ProteinBatch) -> tuple[Tensor, Tensor]:
    """Labels float32 [B, L] with 0 for unknown labels, and the mask bool [B, L] of known labels.

    Raises:
        ValueError: the batch has no labels.
    """
    if batch.labels is None:
        raise ValueError("a downstream task needs proteins with labels")
    known = ~batch.labels.isnan()
    return batch.labels.nan_to_num(0.0), known
