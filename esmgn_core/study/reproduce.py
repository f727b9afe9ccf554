"""Repeat one published result, and compare it with the published value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from esmgn_core.errors import SettingsError, did_you_mean
from esmgn_core.host.configure import Tables, merge_tables
from esmgn_core.host.registry import Registry
from esmgn_core.study.plan import ROW, Cell, Study
from esmgn_core.study.published import PublishedValue, differences_from, published, published_values
from esmgn_core.study.results import TEST, VALID, CellResult
from esmgn_core.study.shipped import shipped_studies

STUDY = "fusion"
"""The shipped study with the published rows and tasks."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Comparison of a score with a published value.

    Attributes:
        passed: True if the score is in the band around the published value.
        text: the comparison, for the user.
        not_comparable: reasons why it does not count as a reproduction.
    """

    passed: bool
    text: str
    not_comparable: Sequence[str]


def published_cell(task: str, row: str, changes: Tables, registry: Registry) -> tuple[Cell, PublishedValue]:
    """The run of a published row and task, and the published value.

    Args:
        task: name of the task, such as ``ec``.
        row: name of the row, such as ``ESM-GearNet serial``.
        changes: settings to change; the result is then not comparable.
        registry: all components.

    Raises:
        SettingsError: the row or the task is unknown.
    """
    study = Study.read(shipped_studies()[STUDY])
    tasks = [stage.name for stage in study.stages]
    if task not in tasks:
        raise SettingsError(
            f"no published results of the task '{task}'",
            *did_you_mean(task, tasks),
            f"tasks: {', '.join(tasks)}",
        )
    value = published(row, task)
    rows = [item for item in study.rows if item.labels[ROW] == row and task in (item.stages or tasks)]
    if value is None or not rows:
        names = {item.labels[ROW] for item in study.rows if task in (item.stages or tasks)}
        known = [item.row for item in published_values() if item.task == task and item.row in names]
        raise SettingsError(
            f"no published result of '{row}' on the task '{task}' (--row)",
            *did_you_mean(row, known),
            f"rows: {', '.join(known)}",
        )
    [stage] = [stage for stage in study.stages if stage.name == task]
    stage = replace(stage, run=merge_tables(stage.run, changes))
    [cell] = replace(study, rows=rows, stages=[stage]).cells(registry)
    return cell, value


def compare(result: CellResult, value: PublishedValue, registry: Registry) -> Verdict:
    """Compare the test score of a finished cell with the published value."""
    name = TEST if TEST in result.scores else VALID
    score = result.scores[name][value.metric]
    difference = score - value.value
    passed = abs(difference) <= value.band
    where = "" if name != VALID else " on the validation set (no test set)"
    text = f"{value.metric} {score:.3f}{where}; published {value.value:.3f} for {value.row}"
    if passed:
        text += f": within {value.band:g}"
    else:
        side = "above" if difference > 0 else "below"
        text += f": {abs(difference):.3f} {side} it, outside of the band of {value.band:g}"
    reasons = differences_from(result.cell.config, value.task, registry)
    return Verdict(passed, text, [*reasons, *(["no test set"] if name == VALID else [])])
