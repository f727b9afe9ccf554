"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / "esmgn_core", ROOT / "cli" / "esmgn_cli", *sorted((ROOT / "plugins").glob("*/esmgn_*"))]


def module_name(file: Path, package: Path) -> str:
    """Dotted name of a module file; a package is named after its folder."""
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [
    module_name(file, package)
    for package in PACKAGES
    for file in sorted(package.rglob("*.py"))
    if ">>> " in file.read_text()
]


def test_there_are_examples() -> None:
    """The list is found by its text: an empty one would pass unnoticed."""
    assert len(MODULES) > 15


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
