"""Classification: one of many classes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.graph import View
from esmgn_core.metrics import accuracy
from esmgn_downstream.head import MLP, HeadedTask, HeadSettings, known_labels


class Classification(HeadedTask):
    """Cross-entropy of the class of a protein, whose label is the number of its class.

    Source: arXiv 2203.06125, section 5 (fold classification).
    """

    class Settings(HeadSettings):
        """Settings of :class:`Classification`."""

    metric = "accuracy"
    group_size = 1
    label_dim = 1

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = MLP(encoder_dim, num_targets, settings)

    def prepare(self, labels: Tensor) -> None:
        """Nothing is taken from the labels: all classes weigh the same."""

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:  # noqa: ARG002 - part of the contract
        """Logits float32 [B, T]."""
        logits: Tensor = self.head(encoding.protein)
        return logits.float()

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the proteins whose class is known, and the accuracy."""
        (view,), (encoding,) = views, encodings
        labels, known = known_labels(view.batch)
        target, weight = labels[:, 0].long(), known[:, 0]
        logits = self.predict(encoding, view.batch)
        num_known = int(weight.sum())
        each = functional.cross_entropy(logits, target, reduction="none")
        right = ((logits.detach().argmax(dim=1) == target) * weight).sum()
        return TaskOutput(
            loss=(each * weight).sum() / max(num_known, 1),
            num_samples=num_known,
            metrics={"accuracy": right.float() / max(num_known, 1)},
        )

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:  # noqa: ARG002
        """Accuracy."""
        return {"accuracy": accuracy(predictions, labels)}
