"""Compare the scores of run folders that belong to no study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from esmgn_core.engine.runs import RunSummary
from esmgn_core.errors import RunError
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import Registry
from esmgn_core.run_folder import RunFolder
from esmgn_core.study.plan import ROW, SEED, Cell
from esmgn_core.study.results import VALID, CellResult, Results, result_of

_NOT_COMPARED = ("seed", "trackers", "device")


def results_of_runs(summaries: Sequence[RunSummary], registry: Registry) -> Results:
    """Scores of runs, grouped for a table.

    Runs with the same settings except seed, trackers and device are one row, named after the first of them,
    with a value for each seed. If they start from an encoder, its run has to be the same but for these
    settings too.

    Raises:
        RunError: two runs of a row have the same seed, or a run has no scores.
    """
    results = Results()
    rows: dict[str, str] = {}
    names = Counter(item.name for item in summaries)
    for item in summaries:
        if not item.results.get("sets"):
            raise RunError(
                f"{item.run.path} has no test scores", "they are written at the end of a downstream run"
            )
        key = json.dumps(_facts(item.run, item.config), sort_keys=True, default=str)
        row = rows.setdefault(key, item.name if names[item.name] == 1 else str(item.run.path))
        seed = str(item.config["train"]["seed"])
        if any(cell.cell.labels == {ROW: row, SEED: seed} for cell in results.cells):
            raise RunError(
                f"{item.run.path} and another run have the same settings and seed {seed}",
                "compare runs of different settings or seeds",
            )
        config = configure(registry, [dict(item.config)])
        cell = Cell(item.name, config.task.name, {ROW: row, SEED: seed}, config)
        results.cells.append(result_of(cell, item))
    for one, other in combinations(results.cells, 2):
        _check_proteins(one, other)
    return results


def _check_proteins(first: CellResult, second: CellResult) -> None:
    """Refuse test sets of one name with other proteins or labels: their scores are not comparable."""
    for name in first.scores.keys() & second.scores.keys():
        one, other = first.predictions(name), second.predictions(name)
        if name == VALID or one is None or other is None:
            continue
        paths = f"{first.summary.run.path} and {second.summary.run.path}"
        if one.names != other.names:
            number = len({*one.names} ^ {*other.names})
            raise RunError(
                f"the set '{name}' of {paths} has other proteins: {number} are in one of them only",
                "train and test both on the same data and splits",
            )
        if not torch.equal(one.labels.isnan(), other.labels.isnan()) or not torch.equal(
            one.labels.nan_to_num(), other.labels.nan_to_num()
        ):
            raise RunError(f"the set '{name}' of {paths} has other labels")


def _facts(run: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs differ in more than their seed."""
    train = {name: value for name, value in config["train"].items() if name not in _NOT_COMPARED}
    source = run.started_from() or {}
    parent = Path(source["path"]) if "path" in source else None
    if parent and RunFolder(parent).config.is_file():
        tables, _ = RunFolder(parent).recorded_tables()
        if "train" in tables:
            return {**config, "train": train, "init": _facts(RunFolder(parent), tables)}
    return {**config, "train": train, "init": source.get("model_sha256")}
