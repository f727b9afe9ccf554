"""Scores that mean what they say: a temperature and a threshold from the held-out proteins of a run.

Logits are divided by the temperature that makes the held-out labels most likely (Guo et al. 2017,
arXiv 1706.04599). The threshold is where Fmax is reached on the same proteins.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.machine.files import write_atomically
from esmgn_core.metrics import Sweep

_STEPS = 60
_RANGE = (-3.0, 4.0)
"""Natural logarithms of the temperatures that are tried."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns logits into probabilities.

    Attributes:
        temperature: logits are divided by it; 1 without held-out proteins.
        threshold: probability from which on a class is predicted; ``None`` where no score is swept.
        f_max: of the held-out proteins at the threshold.
        num_proteins: held-out proteins it was fitted on; 0 if there were none.
    """

    temperature: float = 1.0
    threshold: float | None = None
    f_max: float | None = None
    num_proteins: int = 0

    def probabilities(self, logits: Tensor, *, exclusive: bool) -> Tensor:
        """Probabilities [P, T] of logits [P, T]; those of one protein sum to 1 if ``exclusive``."""
        scaled = logits / self.temperature
        return scaled.softmax(1) if exclusive else scaled.sigmoid()


def calibrated(run: RunFolder, *, exclusive: bool) -> Calibration:
    """The calibration of a run: as it was stored, else fitted on the run's predictions and stored.

    Args:
        run: of a downstream task.
        exclusive: whether a protein has one class, and not any number of them.
    """
    try:
        return Calibration(**json.loads(run.calibration.read_text()))
    except (OSError, ValueError, TypeError):
        pass
    found = _held_out(run)
    if found is None:
        return Calibration()
    fitted = fit(*found, exclusive=exclusive)
    write_atomically(run.calibration, json.dumps(asdict(fitted), indent=1) + "\n")
    return fitted


def _held_out(run: RunFolder) -> tuple[Tensor, Tensor] | None:
    try:
        with np.load(run.predictions) as file:
            return torch.from_numpy(file["valid.predictions"]), torch.from_numpy(file["valid.labels"])
    except (OSError, KeyError, ValueError):
        return None


def fit(logits: Tensor, labels: Tensor, *, exclusive: bool) -> Calibration:
    """Fit a temperature, and for classes that do not exclude each other a threshold.

    Args:
        logits: float32 [P, T] of held-out proteins.
        labels: float32 [P, T], NaN = unknown; [P, 1], the number of the class, if ``exclusive``.
        exclusive: see :func:`calibrated`.
    """
    known = ~labels.isnan()
    if not bool(known.any()):
        return Calibration()
    temperature = _temperature(logits.double(), labels.double(), known, exclusive=exclusive)
    if exclusive:
        return Calibration(temperature, num_proteins=len(logits))
    f_max, score = Sweep.over(logits.numpy(), labels.numpy()).best()
    threshold = None if np.isinf(score) else float(torch.tensor(score / temperature).sigmoid())
    return Calibration(temperature, threshold, f_max, len(logits))


def _temperature(logits: Tensor, labels: Tensor, known: Tensor, *, exclusive: bool) -> float:
    """Golden-section search: the likelihood has one maximum in the temperature's logarithm."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        value: Any
        if exclusive:
            rows = known[:, 0]
            value = functional.cross_entropy(scaled[rows], labels[rows, 0].long())
        else:
            value = functional.binary_cross_entropy_with_logits(scaled[known], labels[known])
        return float(value)

    low, high = _RANGE
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))
