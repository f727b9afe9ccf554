"""Protein-centric Fmax: a threshold swept over the scores of all proteins and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esmgn_core.metrics.arrays import Floats, multilabel

Mode = Literal["distinct", "torchdrug", "cafa"]


def f_max(scores: ArrayLike, labels: ArrayLike, *, mode: Mode = "distinct") -> float:
    """Largest harmonic mean of precision and recall over all thresholds.

    At a threshold, precision is the mean, over proteins with at least one prediction, of the share of
    their predictions that are right; recall is the mean, over all proteins with a known label, of the
    share of their positive classes that are predicted. A protein without positive classes has recall 0, and
    precision 0 once something is predicted for it. NaN where no label is known.

    Args:
        scores: [B, T], any monotone function of the probability.
        labels: [B, T], 1 or 0; NaN takes this class of this protein out of the sweep. A protein whose
            labels are all NaN is left out.
        mode: ``distinct``: every distinct score is a threshold. ``torchdrug``: equal scores are taken
            one by one in their order in ``scores``, as TorchDrug does, which is optimistic where there
            are ties. ``cafa``: as ``distinct``, but recall is the mean over the proteins that have
            positive classes.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.

    Source: Radivojac et al. 2013 (doi 10.1038/nmeth.2340); arXiv 2203.06125, section 5.
    """
    return Sweep.over(scores, labels, mode=mode).best()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """All S known pairs of protein and class, by descending score.

    Sorted once, so that Fmax and micro-averaged precision of many resamples of the proteins are cheap.

    Attributes:
        score: [S].
        protein: int64 [S], row of the pair's protein.
        precision_change: float64 [S], change of the protein's precision.
        num_positives: int64 [B].
        is_known: bool [B], True for proteins with a known label.
        ends: int64 [G], places after which a threshold may stand; only those that a hit makes worth
            while: between hits neither precision nor recall rises.
        hits: int64 [H], proteins of the pairs whose label is positive.
        hits_within: int64 [G], how many of them lie within the threshold.
        firsts: int64 [F], proteins by their highest score.
        firsts_within: int64 [G], how many of them lie within the threshold.
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
        """Sort the scores [B, T] of B proteins; see :func:`f_max`.

        Raises:
            ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
        """
        values, truth = multilabel(scores, labels)
        # Unknown pairs go to the end of their row and are then left out.
        known = ~np.isnan(truth)
        kind: Literal["stable"] | None = "stable" if mode == "torchdrug" else None
        order = np.argsort(np.where(known, -values, np.inf), axis=1, kind=kind)
        positive = np.take_along_axis((truth > 0) & known, order, axis=1)
        precision = positive.cumsum(axis=1) / np.arange(1, values.shape[1] + 1)
        change = np.diff(precision, axis=1, prepend=0.0)

        kept = np.flatnonzero(np.take_along_axis(known, order, axis=1))
        ranked = np.take_along_axis(values, order, axis=1).ravel()[kept]
        turn = np.argsort(-ranked, kind=kind)
        kept, ranked = kept[turn], ranked[turn]
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
        """Fmax, and the score from which on classes are predicted there.

        Args:
            counts: [B], how often each protein counts; once by default.
            least: lowest score that may be a threshold.

        Returns:
            ``(0.0, inf)`` where no class is positive, ``(NaN, inf)`` where no label is known.
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
        """Micro-averaged precision: of all pairs of protein and class as one ranking.

        0 without positive classes, NaN where no label is known.
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
        """How often each protein counts, float64 [B]; 0 without a known label."""
        known = self.is_known.astype(np.float64)
        return known if counts is None else known * np.asarray(counts, dtype=np.float64)


def _ends(ranked: NDArray[np.floating], hit: NDArray[np.bool_], *, one_by_one: bool) -> NDArray[np.int64]:
    """Last place of every run of equal scores that has a hit in it."""
    if one_by_one:
        return np.flatnonzero(hit)
    is_last = np.ones(len(ranked), dtype=np.bool_)
    is_last[:-1] = ranked[1:] != ranked[:-1]
    ends = np.flatnonzero(is_last)
    hits = hit.cumsum()[ends]
    return ends[np.diff(hits, prepend=0) > 0]
