"""A folder is trained by one run at a time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from esmgn_core import hookimpl
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover

from .conftest import Start


class Second:
    """An observer that resumes the run a second time after its third step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.message = ""

    @hookimpl
    def esmgn_metrics_logged(self, step: int) -> None:
        if step == 3:
            with pytest.raises(RunError) as caught:
                resume_run(discover(), self.folder, changes={})
            self.message = str(caught.value)


def test_a_run_that_is_trained_cannot_be_resumed_beside_itself(start: Start, tmp_path: Path) -> None:
    observer = Second(tmp_path / "run")
    discover().manager.register(observer)
    try:
        outcome = start()
    finally:
        discover().manager.unregister(observer)
    message, hint = observer.message.splitlines()
    expected = (
        rf"another process trains the run in {tmp_path}/run \(process {os.getpid()} on \S+, since [-\d: ]+\)"
    )
    assert re.fullmatch(expected, message)
    assert hint == f"  wait for its end, or stop it; then: esmgn run --resume {tmp_path}/run"
    assert [line["step"] for line in outcome.run.read_metrics()] == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "run" / ".lock").exists()
