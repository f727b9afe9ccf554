"""Examples in docstrings of the modules that need no torch."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "esmgn_cli.render",
    "esmgn_cli.settings_text",
    "esmgn_core.alphabet",
    "esmgn_core.configure",
    "esmgn_core.errors",
    "esmgn_core.splits",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
