"""The claim that every setting of a component has an effect."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

from esmgn_core.settings import ComponentSettings
from esmgn_core.testing.claims import Claims, differences

Observe = Callable[[ComponentSettings], dict[str, object]]
"""Builds a component with these settings and returns its parameters and outputs, by name."""

_LOADS_FILES = {"weights"}
"""Settings whose other values may need a download."""


class Reads:
    """The settings of a component that were read.

    Attributes:
        names: names of these settings.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()

    def of(self, settings: ComponentSettings) -> ComponentSettings:
        """A copy of ``settings`` that records which of its fields are read."""
        model, names = type(settings), self.names

        def read(self: object, name: str) -> Any:
            if name in model.model_fields:
                names.add(name)
            elif name in ("__dict__", "model_dump", "model_dump_json", "model_copy"):
                names.update(model.model_fields)
            return object.__getattribute__(self, name)

        copy = settings.model_copy()
        recording = types.new_class(
            model.__name__, (model,), exec_body=lambda body: body.update(__getattribute__=read)
        )
        object.__setattr__(copy, "__class__", recording)
        return copy


def check_settings_are_used(
    claims: Claims, settings: ComponentSettings, reads: Reads, observe: Observe | None
) -> None:
    """Every setting is read, also those that only other values of a switch need.

    A setting is not judged if another value changes nothing that ``observe`` returns: it may be for speed.

    Args:
        claims: the claims.
        settings: settings of the component.
        reads: the settings read in all other checks; those read in ``observe`` are added.
        observe: ``None`` if a component cannot be built with arbitrary settings.
    """
    doubts = [] if observe is None else _without_effect(settings, observe)
    unread = sorted(type(settings).model_fields.keys() - reads.names)
    untried = [name for name in _switches(settings) if observe is None or name in _LOADS_FILES]
    if untried:
        needed = f"was not read, but other values of '{untried[0]}' may need it"
        doubts += [f"the setting '{name}' {needed}" for name in unread]
    else:
        claims.require(not unread, f"never reads its setting {' and '.join(map(repr, unread))}")
    claims.not_judged += doubts


def _without_effect(settings: ComponentSettings, observe: Observe) -> list[str]:
    expected = observe(settings)
    doubts = []
    for name in type(settings).model_fields.keys() - _LOADS_FILES:
        tried = changed = False
        for found in _observed(settings, name, observe):
            tried, changed = True, bool(differences(expected, found))
            if changed:
                break
        if not tried:
            doubts.append(f"no second value of the setting '{name}' is known to be valid")
        elif not changed:
            doubts.append(f"another value of the setting '{name}' changes neither parameters nor outputs")
    return sorted(doubts)


def _observed(settings: ComponentSettings, name: str, observe: Observe) -> Iterator[dict[str, object]]:
    """Results under other values of one setting."""
    model, values = type(settings), dict(settings)
    for value in _other_values(values[name], model.model_fields[name].annotation):
        with suppress(Exception):  # the value is out of bounds, or excludes another setting
            yield observe(model.model_validate(values | {name: value}))


def _switches(settings: ComponentSettings) -> list[str]:
    """Settings that decide about others: true or false, a choice, or a source of weights."""
    return [
        name
        for name, field in type(settings).model_fields.items()
        if name in _LOADS_FILES or isinstance(getattr(settings, name), bool) or _choices(field.annotation)
    ]


def _other_values(value: object, annotation: object) -> list[Any]:
    if choices := _choices(annotation):
        return [choice for choice in choices if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value, value + 1, value + 3, value // 2, value - 1]
    if isinstance(value, float):
        return [value / 2, value * 2, 0.5]
    if isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
        return [type(value)(2 * item for item in value)]
    return []


def _choices(annotation: object) -> list[Any]:
    """The values of a ``Literal``, also of one in a union."""
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [choice for option in get_args(annotation) for choice in _choices(option)]
