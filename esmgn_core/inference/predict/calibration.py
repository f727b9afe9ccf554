"""Calibration: a temperature and a threshold from the validation set of a run.

Logits are divided by the temperature that maximises the likelihood of the validation labels (Guo et al.
2017, arXiv 1706.04599). The targets are smoothed (Platt 1999): otherwise perfectly separated labels have no
finite optimum. The threshold maximises Fmax on the same proteins.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.engine.selection import read_metadata
from esmgn_core.errors import WriteError
from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.parse import parse_json
from esmgn_core.metrics import Sweep, accuracy, f_max
from esmgn_core.printable import counted
from esmgn_core.run_folder import RunFolder

MIN_PROTEINS = 30
"""Minimum number of validation proteins: a rate measured on 30 is known to +-0.18 (95 %)."""
MIN_THRESHOLD = 0.05
"""Lower bound of the threshold. The best threshold of calibrated probabilities is half of Fmax (Lipton et al.
2014, arXiv 1402.1892), so that a lower threshold means an Fmax below 0.1."""

_STEPS = 36
_RANGE = (-3.0, 4.0)
"""Search range of the natural logarithm of the temperature."""
_FLAT = 50.0
"""Temperatures above this are at the end of the range: the scores contradict the labels."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration of logits.

    Attributes:
        temperature: divisor of the logits; 1 without a calibration.
        threshold: lowest probability of a predicted label; ``None`` for exclusive classes.
        f_max: Fmax on the validation set at the threshold; ``None`` for exclusive classes.
        num_proteins: number of validation proteins with a known label.
        problem: why there is no calibration and no label is predicted; empty if there is one.
        warning: limits of the calibration; empty if none is known.
        unvalidated: columns of labels that no validation protein has, or that all have.
    """

    temperature: float = 1.0
    threshold: float | None = None
    f_max: float | None = None
    num_proteins: int = 0
    problem: str = ""
    warning: str = ""
    unvalidated: tuple[int, ...] = ()

    def probabilities(self, logits: Tensor, *, exclusive: bool) -> Tensor:
        """Probabilities [P, T] for logits [P, T]; the sum for a protein is 1 if ``exclusive``."""
        scaled = logits / self.temperature
        return scaled.softmax(1) if exclusive else scaled.sigmoid()


def calibrated(run: RunFolder, *, exclusive: bool) -> Calibration:
    """Calibrate a run on its predictions of the validation set, and record it in ``calibration.json``.

    Args:
        run: a run of a downstream task.
        exclusive: True if a protein has exactly one class.
    """
    try:
        with np.load(run.predictions) as file:
            logits, labels = (torch.from_numpy(file[f"valid.{name}"]) for name in ("predictions", "labels"))
    except (OSError, KeyError, ValueError):
        return Calibration(problem="the run has no predictions of validation proteins")
    fitted = _problem_of_steps(run) or fit(logits, labels, exclusive=exclusive)
    with suppress(WriteError):  # only a record: the run folder may be read-only
        write_atomically(run.calibration, json.dumps(asdict(fitted), indent=1) + "\n")
    return fitted


def _problem_of_steps(run: RunFolder) -> Calibration | None:
    """A problem if predictions and encoder are of different steps (``train.test_epoch``), else ``None``."""
    try:
        predicted = parse_json(run.results.read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kept = read_metadata(run.model).get("step", str(predicted))
    if kept == str(predicted):
        return None
    return Calibration(
        problem=f"the validation predictions are of step {predicted}, but the encoder is of step {kept}"
    )


def fit(logits: Tensor, labels: Tensor, *, exclusive: bool) -> Calibration:
    """Fit a temperature, and a threshold unless classes are exclusive.

    Args:
        logits: float32 [P, T], of validation proteins.
        labels: float32 [P, T], NaN = unknown; class indices [P, 1] if ``exclusive``.
        exclusive: see :func:`calibrated`.
    """
    rows = ~labels.isnan().all(1)
    logits, labels = logits[rows].double(), labels[rows].double()
    number = len(labels)
    if number < MIN_PROTEINS:
        proteins = counted(number, "validation protein")
        return Calibration(
            problem=f"{proteins} with a known label, {MIN_PROTEINS} needed", num_proteins=number
        )
    if not bool(logits.isfinite().all()):
        return Calibration(problem="predictions of validation proteins are not finite", num_proteins=number)
    return (_fit_classes if exclusive else _fit_labels)(logits, labels)


def _fit_classes(logits: Tensor, labels: Tensor) -> Calibration:
    number, classes = logits.shape
    truth = labels[:, 0].long()
    present = truth.bincount(minlength=classes)
    if int((present > 0).sum()) < 2:
        return Calibration(problem="all validation proteins have the same class", num_proteins=number)
    wrong = 1 / (number + 2)
    targets = torch.full_like(logits, wrong / (classes - 1))
    targets.scatter_(1, truth[:, None], 1 - wrong)
    temperature = _temperature(lambda t: functional.cross_entropy(logits / t, targets))
    if temperature > _FLAT:
        return _no_calibration(number)
    right, most = accuracy(logits.numpy(), truth.numpy()), float(present.max()) / number
    return Calibration(
        temperature=temperature,
        num_proteins=number,
        warning=_baseline_warning("accuracy", right, "the most frequent class", most),
    )


def _fit_labels(logits: Tensor, labels: Tensor) -> Calibration:
    number, known = len(logits), ~labels.isnan()
    positive, negative = ((labels == value).sum(0) for value in (1, 0))
    validated = (positive > 0) & (negative > 0)
    if not bool(validated.any()):
        problem = "no label has validation proteins both with and without it"
        return Calibration(problem=problem, num_proteins=number)
    truth, scores = labels[known], logits[known]
    with_label, without = float((truth > 0).sum()), float((truth <= 0).sum())
    targets = torch.where(truth > 0, (with_label + 1) / (with_label + 2), 1 / (without + 2))
    temperature = _temperature(lambda t: functional.binary_cross_entropy_with_logits(scores / t, targets))
    if temperature > _FLAT:
        return _no_calibration(number)
    lowest = float(torch.tensor(MIN_THRESHOLD, dtype=torch.float64).logit()) * temperature
    best, score = Sweep.over(logits.numpy(), labels.numpy()).best(least=lowest)
    threshold = MIN_THRESHOLD if np.isinf(score) else float(torch.tensor(score / temperature).sigmoid())
    frequencies = (positive / (positive + negative).clamp(min=1)).expand_as(labels)
    return Calibration(
        temperature=temperature,
        threshold=max(threshold, MIN_THRESHOLD),
        f_max=best,
        num_proteins=number,
        warning=_baseline_warning(
            "Fmax", best, "the frequencies of the labels", f_max(frequencies.numpy(), labels.numpy())
        ),
        unvalidated=tuple((~validated).nonzero()[:, 0].tolist()),
    )


def _no_calibration(number: int) -> Calibration:
    problem = "the scores of the validation proteins contradict their labels"
    return Calibration(problem=problem, num_proteins=number)


def _baseline_warning(name: str, value: float, trivial: str, baseline: float) -> str:
    if value > baseline:
        return ""
    return f"{name} {value:.3f} on the validation proteins is not above {baseline:.3f} of {trivial} alone"


def _temperature(loss: Any) -> float:
    """Golden-section search: the loss has one minimum in the logarithm of the temperature."""
    low, high = _RANGE
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = float(loss(np.exp(left))), float(loss(np.exp(right)))
    for _ in range(_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = float(loss(np.exp(left)))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = float(loss(np.exp(right)))
    return float(np.exp((low + high) / 2))
