"""``docs/api.md`` is the recorded public API: a change of a public name or signature shows in its diff."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def generate_api() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module("generate_api")


def test_the_page_is_the_public_api(generate_api: ModuleType) -> None:
    recorded = (DOCS / "api.md").read_text(encoding="utf-8")
    assert generate_api.page() == recorded, "write the page again: python docs/generate_api.py"


def test_public_names_have_a_description(generate_api: ModuleType) -> None:
    lines = [line for line in generate_api.page().splitlines() if line.startswith("- `")]
    assert len(lines) > 100
    bare = [line for line in lines if not line.partition("` ")[2]]
    assert bare == []
