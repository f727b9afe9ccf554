"""Regression of numbers that describe a protein."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.graph import View
from esmgn_core.metrics import (
    MIN_IN_GROUP,
    grouped_spearman,
    mean_absolute_error,
    mean_of_known,
    pearson,
    root_mean_squared_error,
    spearman,
)
from esmgn_downstream.head import HeadSettings, ProteinTask, known_labels


class Regression(ProteinTask):
    """Squared error of standardised values, from the protein representation.

    Values are standardised by the mean and standard deviation of the training labels. Predictions are in the
    unit of the labels.

    Source: arXiv 2303.06275, section 4.1 (protein structure ranking).
    """

    class Settings(HeadSettings):
        """Settings of :class:`Regression`."""

    output = "values"
    metric = "spearman"
    mean: Tensor
    std: Tensor

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.register_buffer("mean", torch.zeros(num_targets))
        self.register_buffer("std", torch.ones(num_targets))

    def prepare(self, labels: Tensor) -> None:
        """Store mean and unbiased standard deviation of the labels; 1 for constant or single labels."""
        for column, values in enumerate(labels.T):
            known = values[~values.isnan()].double()
            self.mean[column] = known.mean() if len(known) else 0.0
            # The computed deviation of equal numbers may be a rounding error above 0.
            varies = len(known) > 1 and bool(known.min() < known.max())
            self.std[column] = known.std() if varies else 1.0

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:
        """Values float32 [B, T]."""
        return super().predict(encoding, batch) * self.std + self.mean

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean squared error of the standardised values that are known."""
        (view,), (encoding,) = views, encodings
        labels, known = known_labels(view.batch)
        error = super().predict(encoding, view.batch) - (labels - self.mean) / self.std
        num_known = int(known.sum())
        return TaskOutput((error.square() * known).sum() / max(num_known, 1), num_known)

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:
        """Correlations and errors, as means over targets, and the rank correlation within groups.

        Targets with an undefined score, such as those without known labels, are left out of its mean.
        """
        metrics = {
            "spearman": spearman,
            "pearson": pearson,
            "mean_absolute_error": mean_absolute_error,
            "root_mean_squared_error": root_mean_squared_error,
        }
        pairs = list(zip(predictions.T, labels.T, strict=True))
        scores = {name: mean_of_known([metric(*pair) for pair in pairs]) for name, metric in metrics.items()}
        if len(groups) and int(groups.bincount().max()) >= MIN_IN_GROUP:
            scores["spearman_per_group"] = mean_of_known([grouped_spearman(*pair, groups) for pair in pairs])
        return scores
