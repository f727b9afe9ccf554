"""Differences between the settings of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esmgn_core.errors import shown

Tables = Mapping[str, Any]

_SHOWN = 6
"""Differences that a message lists."""


def encoder_changes(trained: Tables, now: Tables) -> str:
    """Describe the settings of an encoder that differ from those of its training; empty if none do.

    Args:
        trained: tables of the folder with the encoder.
        now: tables of the run that starts from it.
    """
    given = {name: now[name] for name in trained if name in now}
    differences = [
        item for item in compare_settings(trained, given) if item[0].split(".")[1] not in _WEIGHT_SETTINGS
    ]
    return format_differences(differences) if differences else ""


_WEIGHT_SETTINGS = {"name", "weights", "checkpoint", "trainable", "dropout", "gradient_checkpointing"}
"""Settings of the origin or training of weights, which do not change what an encoder computes."""


def compare_settings(before: Tables, after: Tables) -> list[tuple[str, Any, Any]]:
    """Settings that differ, each with both values; ``None`` if one side lacks the setting."""
    first, second = dict(flatten(before)), dict(flatten(after))
    names = [*first, *(name for name in second if name not in first)]
    return [
        (name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    ]


def flatten(tables: Tables, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as ``table.key`` with its value."""
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def format_differences(differences: list[tuple[str, Any, Any]]) -> str:
    """The first differences and the number of the others, on one line."""
    texts = [f"{name} {_value(before)} -> {_value(after)}" for name, before, after in differences[:_SHOWN]]
    more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return ", ".join([*texts, *more])


def _value(value: object) -> str:
    return "unset" if value is None else value if isinstance(value, str) else shown(value)
