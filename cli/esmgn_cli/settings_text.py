"""Text of the settings of a component or table, for ``esmgn show``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from esmgn_cli.render import line_width
from esmgn_core.errors import shown
from esmgn_core.settings import is_model

_TYPE_NAMES = {int: "integer", float: "number", bool: "true | false", str: "text", Path: "path"}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_LEFT_WIDTH = 30


def settings_text(model: type[BaseModel], values: Mapping[str, Any] | None = None) -> str:
    """List settings with their values as in a run file, types and descriptions.

    Args:
        model: the settings class.
        values: values of a preset, which replace defaults.
    """
    assigned = {**_defaults(model), **(values or {})}
    entries = [_entry(name, field, assigned[name]) for name, field in model.model_fields.items()]
    return "\n".join(entries) or "  no settings"


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}


def _entry(name: str, field: FieldInfo, value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    nested = isinstance(value, Mapping)
    left = name if value is None or nested else f"{name} = {shown(value)}"
    right = type_text(field.annotation, field.metadata)
    if value is None:
        right += ", not set"
    lines = [f"  {left:{_LEFT_WIDTH}}  {right}"]
    meaning = " ".join((field.description or "").replace("``", "'").split())
    lines += textwrap.wrap(meaning, line_width(), initial_indent=" " * 6, subsequent_indent=" " * 6)
    if nested:
        lines += [f"      {key} = {shown(item)}" for key, item in value.items()]
    return "\n".join(lines)


def type_text(annotation: Any, metadata: Iterable[object] = ()) -> str:
    """Values that a setting accepts.

    >>> type_text(Literal["sum", "mean"]), type_text(tuple[Path, ...]), type_text(int | None)
    ('"sum" | "mean"', 'list of path', 'integer')
    """
    bounds = ", ".join(_bounds(metadata))
    return f"{_base_text(annotation)} {bounds}".rstrip()


def _base_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], arguments[1:])
    if origin is Literal:
        return " | ".join(map(shown, arguments))
    if origin in (Union, UnionType):
        return " | ".join(type_text(option) for option in arguments if option is not NoneType)
    if origin in (list, tuple):
        if origin is tuple and Ellipsis not in arguments:
            return f"[{', '.join(map(type_text, arguments))}]"
        return f"list of {type_text(arguments[0])}"
    if is_model(annotation) or origin is dict or annotation is dict:
        return "table"
    return _TYPE_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for name, sign in _BOUNDS.items():
            if (bound := getattr(item, name, None)) is not None:
                yield f"{sign} {shown(bound)}"
