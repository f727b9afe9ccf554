"""Published results, and reasons why a run is not comparable with them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esmgn_core.errors import shown
from esmgn_core.host.compare import flatten
from esmgn_core.host.registry import Registry
from esmgn_core.machine.parse import parse_toml
from esmgn_core.settings import RunConfig

_FREE = {"train.proteins_per_batch", "train.seed"}
"""Settings of a recipe that may differ: the batch size depends on the number of processes."""


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A published score.

    Attributes:
        row: name of the method.
        task: name of the task, which is also that of its recipe.
        metric: name of the score.
        value: the score.
        band: largest accepted difference of a reproduction.
        source: where it was published.
    """

    row: str
    task: str
    metric: str
    value: float
    band: float
    source: str


@functools.cache
def published_values() -> tuple[PublishedValue, ...]:
    """All published values."""
    content = parse_toml(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    metrics, bands, sources = (content[key] for key in ("metrics", "bands", "sources"))
    return tuple(
        PublishedValue(row, task, metrics[task], value, bands[task], sources[source])
        for source, rows in content["values"].items()
        for row, values in rows.items()
        for task, value in values.items()
    )


def published(row: str, task: str) -> PublishedValue | None:
    """The published value of a row and a task; ``None`` if there is none."""
    return next((item for item in published_values() if (item.row, item.task) == (row, task)), None)


def differences_from(config: RunConfig, task: str, registry: Registry) -> list[str]:
    """Reasons why a run of a published task is not comparable with the published value."""
    return [*_differences(config, task, registry)]


def _differences(config: RunConfig, task: str, registry: Registry) -> Iterator[str]:
    if config.data.name != task:
        yield f"other data ({config.data.name})"
    if config.seq and config.seq.settings.get("weights") == "random":
        yield f"random weights of {config.seq.name}"
    recipes = registry.catalogue.recipes
    recipe = recipes.get(f"{task}_{config.fuse.name}") or recipes.get(task)  # one for single encoders
    tables = config.model_dump(mode="json", exclude_none=True)
    settings = dict(flatten(tables))
    for table in ("optim", "train"):
        for name, value in dict(flatten({table: recipe.run.get(table, {})} if recipe else {})).items():
            if name not in _FREE and settings.get(name) != value:
                yield f"{name} = {shown(settings.get(name))}, published {shown(value)}"
