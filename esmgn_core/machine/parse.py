"""Parse JSON and TOML from untrusted files; every fault of the text is a ``ValueError``."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MAX_DEPTH = 100
_TOO_DEEP = "nested too deeply"
_LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MAX_DEPTH},}}"""
)
"""A dotted key of many parts; tomllib takes quadratic time for it."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_record(path: Path) -> dict[str, Any]:
    """The object in a JSON file written by a program; empty if the file is missing or damaged."""
    try:
        record = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        tomllib.TOMLDecodeError: the text is not TOML, or nested too deeply.
    """
    if _LONG_KEY.search(text):
        raise tomllib.TOMLDecodeError(_TOO_DEEP)
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError(_TOO_DEEP) from None
    level: list[Any] = [tables]
    for _ in range(_MAX_DEPTH):  # dotted keys nest without recursion in tomllib, but our readers recurse
        level = [value for item in level if isinstance(item, dict | list) for value in _values(item)]
        if not level:
            return tables
    raise tomllib.TOMLDecodeError(_TOO_DEEP)


def _values(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item
