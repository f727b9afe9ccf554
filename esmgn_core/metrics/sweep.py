"""Protein-centric Fmax by a sweep of the threshold over all scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esmgn_core.metrics.arrays import Floats, multilabel

Mode = Literal["distinct", "torchdrug", "cafa"]


def f_max(scores: ArrayLike, labels: ArrayLike, *, mode: Mode = "distinct") -> float:
    """Largest harmonic mean of precision and recall over all thresholds.

    Precision is the mean, over proteins with at least one predicted class, of the share of correct
    predictions. Recall is the mean, over all proteins with a known label, of the share of predicted positive
    classes. A protein without positive classes has recall 0, and precision 0 once a class is predicted. NaN
    if no label is known.

    Args:
        scores: [B, T], any monotone function of the probability.
        labels: [B, T], 1 or 0; NaN labels are ignored, and so are proteins with NaN labels only.
        mode: ``distinct``: every distinct score is a threshold. ``torchdrug``: equal scores are added one by
            one in their order in ``scores``, as in TorchDrug, which is optimistic under ties. ``cafa``: as
            ``distinct``, but recall is the mean over proteins with positive classes.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.

    Source: Radivojac et al. 2013 (doi 10.1038/nmeth.2340); arXiv 2203.06125, section 5.
    """
    return Sweep.over(scores, labels, mode=mode).best()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """All S known pairs of protein and class, in the order of descending scores.

    The pairs are sorted once, which makes Fmax and average precision of many resamples of the proteins cheap.

    Attributes:
        score: [S].
        protein: int64 [S], row of the protein.
        precision_change: float64 [S], change of the precision of the protein by this pair.
        num_positives: int64 [B], number of positive classes of each protein.
        is_known: bool [B], True for proteins with a known label.
        ends: int64 [G], last pair of each useful threshold; precision and recall rise only at hits.
        hits: int64 [H], proteins of the pairs with a positive label.
        hits_within: int64 [G], number of hits up to each threshold.
        firsts: int64 [F], proteins in the order of their highest scores.
        firsts_within: int64 [G], number of them up to each threshold.
        mode: see :func:`f_max`.
    """

    score: NDArray[np.floating]
    protein: NDArray[np.int64]
    precision_change: Floats
    num_positives: NDArray[np.int64]
    is_known: NDArray[np.bool_]
    ends: NDArray[np.int64]
    hits: NDArray[np.int64]
    hits_within: NDArray[np.int64]
    firsts: NDArray[np.int64]
    firsts_within: NDArray[np.int64]
    mode: Mode

    @classmethod
    def over(cls, scores: ArrayLike, labels: ArrayLike, *, mode: Mode = "distinct") -> Self:
        """Sort the scores [B, T]; see :func:`f_max`.

        Raises:
            ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
        """
        values, truth = multilabel(scores, labels)
        # Unknown pairs are sorted to the end of their row, and removed below.
        known = ~np.isnan(truth)
        kind: Literal["stable"] | None = "stable" if mode == "torchdrug" else None
        order = np.argsort(np.where(known, -values, np.inf), axis=1, kind=kind)
        positive = np.take_along_axis((truth > 0) & known, order, axis=1)
        precision = positive.cumsum(axis=1) / np.arange(1, values.shape[1] + 1)
        change = np.diff(precision, axis=1, prepend=0.0)

        kept = np.flatnonzero(np.take_along_axis(known, order, axis=1))
        ranked = np.take_along_axis(values, order, axis=1).ravel()[kept]
        descending = np.argsort(-ranked, kind=kind)
        kept, ranked = kept[descending], ranked[descending]
        hit, first = positive.ravel()[kept], kept % max(values.shape[1], 1) == 0
        ends = _ends(ranked, hit, one_by_one=mode == "torchdrug")
        protein = kept // max(values.shape[1], 1)
        return cls(
            score=ranked,
            protein=protein,
            precision_change=change.ravel()[kept],
            num_positives=positive.sum(axis=1),
            is_known=known.any(axis=1),
            ends=ends,
            hits=protein[hit],
            hits_within=hit.cumsum()[ends],
            firsts=protein[first],
            firsts_within=first.cumsum()[ends],
            mode=mode,
        )

    def best(self, counts: ArrayLike | None = None, *, least: float = -np.inf) -> tuple[float, float]:
        """Fmax and its threshold, the lowest score of a predicted class.

        Args:
            counts: [B], weight of each protein; 1 by default.
            least: lowest allowed threshold.

        Returns:
            ``(0.0, inf)`` if no class is positive, ``(NaN, inf)`` if no label is known.
        """
        if not self._weights(counts).any():
            return np.nan, np.inf
        if not len(self.ends):
            return 0.0, np.inf
        precision, recall = self.curve(counts)
        total = precision + recall
        f_score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        allowed = int((self.score[self.ends] >= least).sum())
        if not allowed:
            return 0.0, np.inf
        place = int(f_score[:allowed].argmax())
        return float(f_score[place]), float(self.score[self.ends[place]])

    def curve(self, counts: ArrayLike | None = None) -> tuple[Floats, Floats]:
        """Precision [G] and recall [G] at the thresholds of ``ends``."""
        weight = self._weights(counts)
        right = (self.precision_change * weight[self.protein]).cumsum()[self.ends]
        predicted = weight[self.firsts].cumsum()[self.firsts_within - 1]
        share = weight / np.maximum(self.num_positives, 1)
        recalled = share[self.hits].cumsum()[self.hits_within - 1]
        answerable = weight[self.num_positives > 0].sum() if self.mode == "cafa" else weight.sum()
        precision = np.divide(right, predicted, out=np.zeros_like(right), where=predicted > 0)
        return precision, recalled / max(answerable, 1e-300)

    def average_precision(self, counts: ArrayLike | None = None) -> float:
        """Average precision of all pairs of protein and class as one ranking (micro).

        0 without positive classes, NaN if no label is known.
        """
        weight = self._weights(counts)
        if not weight.any():
            return np.nan
        if not len(self.ends):
            return 0.0
        hits = weight[self.hits].cumsum()[self.hits_within - 1]
        if hits[-1] == 0:
            return 0.0
        taken = weight[self.protein].cumsum()[self.ends]
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])

    def _weights(self, counts: ArrayLike | None) -> Floats:
        """Weight of each protein, float64 [B]; 0 without a known label."""
        known = self.is_known.astype(np.float64)
        return known if counts is None else known * np.asarray(counts, dtype=np.float64)


def _ends(ranked: NDArray[np.floating], hit: NDArray[np.bool_], *, one_by_one: bool) -> NDArray[np.int64]:
    """Index of the last pair of each run of equal scores that contains a hit."""
    if one_by_one:
        return np.flatnonzero(hit)
    is_last = np.ones(len(ranked), dtype=np.bool_)
    is_last[:-1] = ranked[1:] != ranked[:-1]
    ends = np.flatnonzero(is_last)
    hits = hit.cumsum()[ends]
    return ends[np.diff(hits, prepend=0) > 0]
