"""The conformance kit catches downstream tasks that break their contract."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import pytest
import torch
from torch import nn

from esmgn_core.batch import TaskOutput
from esmgn_core.graph import View
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class


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
        self.mean.copy_(labels.mean(0))

    def views(self, batch, build_graph, draws):
        return (View(batch, build_graph(batch), {}),)

    def predict(self, encoding, batch):
        return self.head(encoding.protein).float() + self.mean

    def loss(self, views, encodings):
        error = (self.predict(encodings[0], views[0].batch) - views[0].batch.labels).square().mean()
        return TaskOutput(error, len(views[0].batch))

    def score(self, predictions, labels, groups):
        return {"minus_error": -float((predictions - labels).square().mean())}


class ForgetsLabels(Healthy):
    """Predictions, but not the loss, depend on something outside its state dict."""

    shift: float | torch.Tensor = 0.0

    def prepare(self, labels):
        super().prepare(labels)
        self.shift = labels.mean(0) + 1

    def predict(self, encoding, batch):
        return super().predict(encoding, batch) + self.shift

    def loss(self, views, encodings):
        error = (super().predict(encodings[0], views[0].batch) - views[0].batch.labels).square().mean()
        return TaskOutput(error, len(views[0].batch))


class LooksAtTheBatch(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch) - encoding.protein.mean()


class PredictsHalves(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch).half()

    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return TaskOutput(output.loss.float(), output.num_samples)


class PredictsOneColumn(Healthy):
    def predict(self, encoding, batch):
        return super().predict(encoding, batch)[:, :1]


class HasNoDecidingScore(Healthy):
    metric = "error"


class ScoreIsTensor(Healthy):
    def score(self, predictions, labels, groups):
        return {"minus_error": -(predictions - labels).square().mean()}


class OutputIsUnknown(Healthy):
    output = "numbers"


class LabelsDoNotFitTheOutput(Healthy):
    output = "classes"


class GroupsOnTheInstanceAlone(Healthy):
    output = "values"

    def __init__(self, settings, *, encoder_dim, num_targets):
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.group_size = 2


class WantsManyLabels(Healthy):
    def __init__(self, settings, *, encoder_dim, num_targets):
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.label_dim = 7


def test_a_healthy_downstream_task_passes():
    check_class(Kind.DOWNSTREAM, Healthy)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (ForgetsLabels, "its predictions depend on values that are not in its state dict"),
        (LooksAtTheBatch, "the prediction for '.*' depends on other proteins of the batch"),
        (PredictsHalves, r"predict\(\) returns torch.float16 \[5, 3\], expected float32 \[5, 3\]"),
        (PredictsOneColumn, r"predict\(\) returns torch.float32 \[5, 1\], expected float32 \[5, 3\]"),
        (HasNoDecidingScore, r"score\(\) does not return its metric 'error'"),
        (ScoreIsTensor, "scores that are not finite numbers: minus_error"),
        (OutputIsUnknown, "output is 'numbers', expected one of: multilabel, classes, values"),
        (LabelsDoNotFitTheOutput, "label_dim is 3 for 3 targets, output = classes has 1"),
        (GroupsOnTheInstanceAlone, "group_size is 2, but 1 on its class"),
        (WantsManyLabels, "label_dim is 7, expected num_targets or 1"),
    ],
)
def test_a_broken_downstream_task_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^downstream task '{component.__name__}'.*: {message}"):
        check_class(Kind.DOWNSTREAM, component)
