"""Multi-label classification: any number of classes per protein."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, TaskOutput
from esmgn_core.graph import View
from esmgn_core.metrics import Sweep, macro_average_precision
from esmgn_downstream.head import HeadSettings, ProteinTask, known_labels


class Multilabel(ProteinTask):
    """Binary cross-entropy of every class, from the protein representation.

    A protein without classes is a training example with labels of 0. Predictions are logits.

    Source: arXiv 2303.06275, section 4.1; Gligorijevic et al. 2021 (doi 10.1038/s41467-021-23303-9).
    """

    class Settings(HeadSettings):
        """Settings of :class:`Multilabel`."""

    output = "multilabel"
    metric = "f_max"

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean binary cross-entropy over all known pairs of protein and class."""
        (view,), (encoding,) = views, encodings
        labels, known = known_labels(view.batch)
        logits = self.predict(encoding, view.batch)
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        num_known = int(known.sum())
        return TaskOutput((each * known).sum() / max(num_known, 1), num_known)

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:  # noqa: ARG002
        """Fmax, and the average precision, micro and macro."""
        sweep = Sweep.over(predictions, labels)
        return {
            "f_max": sweep.best()[0],
            "aupr_micro": sweep.average_precision(),
            "aupr_macro": macro_average_precision(predictions, labels),
        }

    def score_resamples(
        self,
        predictions: Tensor,
        labels: Tensor,
        groups: Tensor,  # noqa: ARG002 - part of the contract
        counts: Iterable[Any],
    ) -> dict[str, list[float]]:
        """Fmax and micro-averaged precision of resamples. Predictions are sorted only once."""
        sweep = Sweep.over(predictions, labels)
        pairs = [(sweep.best(drawn)[0], sweep.average_precision(drawn)) for drawn in counts]
        return {"f_max": [pair[0] for pair in pairs], "aupr_micro": [pair[1] for pair in pairs]}
