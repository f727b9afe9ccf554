"""Which process keeps the others waiting."""

from __future__ import annotations

import pytest

from esmgn_core.engine.memory import balance


def test_the_slowest_process_is_named_with_what_it_costs_the_others() -> None:
    """The other two wait for half of the time, and the slowest for none of it."""
    found = balance([1.0, 2.0, 1.0])
    assert found == {"slowest_rank": 1.0, "idle_percent": pytest.approx(100 / 3)}


def test_a_process_alone_waits_for_no_other() -> None:
    assert balance([1.0]) == {}
