"""The conformance kit catches each planted fault, and accepts each unusual valid component."""

from __future__ import annotations

import pytest

from .planted import Planted, all_planted


@pytest.mark.parametrize("planted", all_planted(), ids=str)
def test_the_kit_judges_a_planted_component_correctly(planted: Planted) -> None:
    verdict, text = planted.judge()
    assert verdict == planted.expected, text
