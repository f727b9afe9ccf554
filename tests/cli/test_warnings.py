"""Warnings of the library in the program."""

from __future__ import annotations

import warnings

import pytest
import typer

from esmgn_core.errors import EsmgnDeprecationWarning

from ..conftest import PluginHost
from .conftest import Esmgn


def commands(app: typer.Typer) -> None:
    @app.command("old")
    def old() -> None:
        for _ in range(2):
            warnings.warn("before is deprecated", EsmgnDeprecationWarning, stacklevel=1)
        warnings.warn("of another library", UserWarning, stacklevel=1)


def test_a_warning_of_esmgn_is_one_line_and_others_are_shown_as_usual(
    host: PluginHost, esmgn: Esmgn, recwarn: pytest.WarningsRecorder
) -> None:
    host.install("old", esmgn_commands=commands)
    status, _, err = esmgn("old")
    assert (status, err) == (0, "warning: before is deprecated\n")
    assert [str(warning.message) for warning in recwarn] == ["of another library"]
