"""The program, run inside the test process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from esmgn_cli.__main__ import main


class Finished(NamedTuple):
    """How the program ended and what it wrote."""

    status: int
    out: str
    err: str


Esmgn = Callable[..., Finished]


@pytest.fixture
def esmgn(clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Esmgn:
    """Run ``esmgn ARGUMENTS`` at a width of 100 columns."""
    clean_environment.setenv("COLUMNS", "100")

    def run(*arguments: object) -> Finished:
        clean_environment.setattr(sys, "argv", ["esmgn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert isinstance(status, int | None)
        return Finished(status or 0, *capsys.readouterr())

    return run
