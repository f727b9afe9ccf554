"""Classification: one of many classes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, TaskOutput
from esmgn_core.graph import View
from esmgn_core.metrics import accuracy
from esmgn_downstream.head import HeadSettings, ProteinTask, known_labels


class Classification(ProteinTask):
    """Cross-entropy of the class of a protein. The label is the number of the class.

    Source: arXiv 2203.06125, section 5 (fold classification).
    """

    class Settings(HeadSettings):
        """Settings of :class:`Classification`."""

    output = "classes"
    metric = "accuracy"

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__(settings, encoder_dim=encoder_dim, num_targets=num_targets)
        self.label_dim = 1

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the proteins of known class, and the accuracy."""
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
