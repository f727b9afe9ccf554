"""Long sequences in a run."""

from __future__ import annotations

import tomllib

import pytest

from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover
from esmgn_core.model.encoder_folder import EncoderFolder

from .conftest import Start


def test_a_run_that_cuts_says_so_in_its_log_and_its_encoder_keeps_the_policy(start: Start) -> None:
    outcome = start("length.policy=truncate", "length.max_residues=12", "train.max_steps=2")
    length = {"policy": "truncate", "max_residues": 12, "overlap": 256}
    assert tomllib.loads(outcome.run.config.read_text())["length"] == length
    assert "sequences longer than 12 residues were cut" in outcome.run.log_file.read_text()
    assert EncoderFolder(outcome.run.path).run_config(discover()).length.model_dump() == length


def test_a_run_in_windows_learns(start: Start) -> None:
    settings = ("length.policy=window", "length.max_residues=12", "length.overlap=4")
    assert start(*settings, "train.max_steps=2").progress.step == 2


def test_a_run_that_refuses_long_sequences_names_the_protein(start: Start) -> None:
    with pytest.raises(RunError, match=r"protein '.+' has a sequence of \d+ residues"):
        start("length.policy=error", "length.max_residues=12")
