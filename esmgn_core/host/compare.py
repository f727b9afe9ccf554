"""Differences between the settings of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esmgn_core.errors import shown

Tables = Mapping[str, Any]

_SHOWN = 6
"""Differences that a message lists."""


def encoder_changes(trained: Tables, now: Tables) -> str:
    """Settings that an encoder was trained with and that differ now; empty if there are none.

    Args:
        trained: tables of the folder the encoder comes from.
        now: tables of the run that starts from it.
    """
    given = {name: now[name] for name in trained if name in now}
    differences = [item for item in compared(trained, given) if item[0].split(".")[1] not in _OF_WEIGHTS]
    return listed(differences) if differences else ""


_OF_WEIGHTS = {"name", "weights", "checkpoint", "trainable", "dropout", "gradient_checkpointing"}
"""Settings that say where weights come from or how they are trained, not what an encoder computes."""


def compared(one: Tables, other: Tables) -> list[tuple[str, Any, Any]]:
    """Settings that differ, each with both values; ``None`` where one has no such setting."""
    first, second = dict(flat(one)), dict(flat(other))
    names = [*first, *(name for name in second if name not in first)]
    return [
        (name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    ]


def flat(tables: Tables, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as ``table.key`` with their values."""
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def listed(differences: list[tuple[str, Any, Any]]) -> str:
    """One line with the first differences and the number of the others."""
    texts = [f"{name} {_value(one)} -> {_value(other)}" for name, one, other in differences[:_SHOWN]]
    more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return ", ".join([*texts, *more])


def _value(value: object) -> str:
    return "unset" if value is None else value if isinstance(value, str) else shown(value)
