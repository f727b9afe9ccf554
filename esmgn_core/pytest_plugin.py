"""The pytest fixture ``esmgn_check`` for tests of plugins; pytest finds it where esmgn is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def esmgn_check() -> Callable[..., None]:
    """Check a plugin like :func:`esmgn_core.testing.check_plugin`; a failure has no traceback.

    Claims that cannot be judged are printed; ``pytest -rP`` shows them.

    >>> def test_contract(esmgn_check):
    ...     esmgn_check("egnn", hidden_dim=16)
    """

    def check(name: str, /, **settings: Any) -> None:
        from esmgn_core.testing.plugin import failure_lines, plugin_outcomes

        outcomes = list(plugin_outcomes(name, settings))
        for outcome in outcomes:
            if outcome.status == "not judged":
                print(f"not judged: {outcome.about}: {outcome.claim} {outcome.message}")  # noqa: T201
        if lines := failure_lines(outcomes):
            pytest.fail(lines, pytrace=False)

    return check
