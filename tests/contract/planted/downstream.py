"""Downstream tasks with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import torch
from torch import nn

from esmgn_core.batch import TaskOutput
from esmgn_core.graph import View
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.DOWNSTREAM)
class Healthy(nn.Module):
    """Squared error of standardised labels."""

    class Settings(ComponentSettings):
        """No settings."""

    metric = "minus_error"
    group_size = 1

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__()
        self.label_dim = num_targets
        self.head = nn.Linear(encoder_dim, num_targets)
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(num_targets))

    def prepare(self, labels):
        self.mean.copy_(labels.nanmean(0))

    def views(self, batch, build_graph, draws):
        return (View(batch, build_graph(batch), {}),)

    def predict(self, encoding, batch):
        return self.head(encoding.protein).float() + self.mean

    def errors(self, predictions, labels):
        """Squared errors of the known labels."""
        return (predictions - labels)[~labels.isnan()].square()

    def loss(self, views, encodings):
        errors = self.errors(self.predict(encodings[0], views[0].batch), views[0].batch.labels)
        return TaskOutput(errors.sum() / max(len(errors), 1), len(errors))

    def score(self, predictions, labels, groups):
        return {"minus_error": -float(self.errors(predictions, labels).mean())}


@fault(Kind.DOWNSTREAM, "its predictions depend on values that are not in its state dict")
class ForgetsLabels(Healthy):
    """Predictions, but not the loss, depend on something outside its state dict."""

    shift: float | torch.Tensor = 0.0

    def prepare(self, labels):
        super().prepare(labels)
        self.shift = labels.mean(0) + 1

    def predict(self, encoding, batch):
        return super().predict(encoding, batch) + self.shift

    def loss(self, views, encodings):
        errors = self.errors(super().predict(encodings[0], views[0].batch), views[0].batch.labels)
        return TaskOutput(errors.mean(), len(errors))


@fault(Kind.DOWNSTREAM, "the prediction for '.*' depends on other proteins of the batch")
class LooksAtTheBatch(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch) - encoding.protein.mean()


@fault(Kind.DOWNSTREAM, r"predict\(\) returns torch.float16 \[5, 3\], expected float32 \[5, 3\]")
class PredictsHalves(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch).half()

    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return TaskOutput(output.loss.float(), output.num_samples)


@fault(Kind.DOWNSTREAM, r"predict\(\) returns torch.float32 \[5, 1\], expected float32 \[5, 3\]")
class PredictsOneColumn(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch)[:, :1]


@fault(Kind.DOWNSTREAM, r"score\(\) does not return its metric 'error'")
class HasNoDecidingScore(Healthy):
    metric = "error"


@fault(Kind.DOWNSTREAM, "scores that are not finite numbers: minus_error")
class ScoreIsTensor(Healthy):
    def score(self, predictions, labels, groups):
        return {"minus_error": -(predictions - labels).square().mean()}


@fault(Kind.DOWNSTREAM, "output is 'numbers', expected one of: multilabel, classes, values")
class OutputIsUnknown(Healthy):
    output = "numbers"


@fault(Kind.DOWNSTREAM, "label_dim is 3 for 3 targets, output = classes has 1")
class LabelsDoNotFitTheOutput(Healthy):
    output = "classes"


@fault(Kind.DOWNSTREAM, "group_size is 2, but 1 on its class")
class GroupsOnTheInstanceAlone(Healthy):
    output = "values"

    def __init__(self, settings, *, encoder_dim, num_targets):
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.group_size = 2


@fault(Kind.DOWNSTREAM, "label_dim is 7, expected num_targets or 1")
class WantsManyLabels(Healthy):
    def __init__(self, settings, *, encoder_dim, num_targets):
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.label_dim = 7


@fault(Kind.DOWNSTREAM, "an unknown label makes the loss infinite or NaN")
class LossReadsUnknownLabels(Healthy):
    def loss(self, views, encodings):
        errors = (self.predict(encodings[0], views[0].batch) - views[0].batch.labels).square()
        return TaskOutput(errors.mean(), errors.numel())


@fault(Kind.DOWNSTREAM, "an unknown label makes the loss infinite or NaN")
class PreparesWithUnknownLabels(Healthy):
    def prepare(self, labels):
        self.mean.copy_(labels.mean(0))


@fault(Kind.DOWNSTREAM, "score 'minus_error' changes if a prediction without a known label is added")
class ScoresUnknownLabels(Healthy):
    def score(self, predictions, labels, groups):
        return {"minus_error": -float((predictions - labels).square().mean())}


@fault(Kind.DOWNSTREAM, "score 'minus_error' changes if a prediction without a known label is added")
class TakesUnknownLabelsForZero(Healthy):
    def score(self, predictions, labels, groups):
        return super().score(predictions, labels.nan_to_num(), groups)


@fault(Kind.DOWNSTREAM, "num_samples is .* for a batch|weighted by num_samples")
class CountsUnknownLabels(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return TaskOutput(output.loss, len(views[0].batch) ** 2)


@fault(Kind.DOWNSTREAM, "the labels change its predictions")
class PredictsFromLabels(Healthy):
    def predict(self, encoding, batch):
        predictions = super().predict(encoding, batch)
        return predictions if batch.labels is None else predictions + 0.1 * batch.labels.nan_to_num()


@fault(Kind.DOWNSTREAM, "labels change its (views|predictions)")
class HintsInTheView(Healthy):
    """Shows the label as the type of the first residue."""

    def views(self, batch, build_graph, draws):
        hint = batch.labels[:, 0].nan_to_num().long() % 20
        types = batch.residue_type.index_copy(0, batch.ptr[:-1], hint)
        return (View(batch.replace(residue_type=types), build_graph(batch), {}),)


@valid(Kind.DOWNSTREAM)
class WeighsLabels(Healthy):
    """Labels with weights: num_samples is a fraction."""

    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return TaskOutput(output.loss, output.num_samples * 0.3)


@valid(Kind.DOWNSTREAM)
class ScoresCorrelation(Healthy):
    """A score that is 0 where it is undefined."""

    def score(self, predictions, labels, groups):
        known = ~labels.isnan()
        pair = torch.stack([predictions[known], labels[known]])
        return {**super().score(predictions, labels, groups), "r": float(pair.corrcoef()[0, 1].nan_to_num())}
