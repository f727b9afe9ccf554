"""Run files: what one may hold, and that a run's own repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import (
    Tables,
    read_run_file,
)
from esmgn_core.host.registry import Registry

from .conftest import message, resolved, seq_settings


def test_a_run_file_is_tables(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seq = "esm2_8m"\n[struct]\nname = "gearnet"\nnum_layers = 4\n[train]\nepochs = 3\n')
    assert read_run_file(file) == {
        "seq": {"name": "esm2_8m"},
        "struct": {"name": "gearnet", "num_layers": 4},
        "train": {"epochs": 3},
    }


def test_a_missing_run_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_run_file(tmp_path / "run.toml")
    assert message(caught) == f"run file not found: {tmp_path / 'run.toml'}\n  see: esmgn run --help"


def test_a_run_folder_in_place_of_its_run_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_run_file(tmp_path)
    assert message(caught) == (
        f"{tmp_path} is a folder, expected a run file\n"
        f"  repeat a run: esmgn run {tmp_path}/config.toml\n"
        f"  go on with it: esmgn run --resume {tmp_path}"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"[train\nepochs = 3",
            "cannot read run file FILE: Expected ']' at the end of a table declaration (at line 1",
        ),
        (b"\0", "cannot read run file FILE: line 1 is not text"),
        (
            b"[structt]",
            "unknown table [structt] (FILE)\n  did you mean: struct?\n  tables: seq, struct, fuse,",
        ),
        (b"epochs = 3", "unknown table [epochs] (FILE)\n  tables: seq, struct,"),
        (b"train = 3", "[train] must be a table, got 3 (FILE)"),
        (b"train = 'long'", '[train] must be a table, got "long" (FILE)'),
        (b"[seq]\nname = 3", "seq.name must be text, got 3 (FILE)"),
        (
            b"[seq]\ncomponent = 'esm2'",
            'seq.component without seq.name (FILE)\n  choose by name: seq.name = "esm2"',
        ),
    ],
)
def test_a_wrong_run_file_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_run_file(file)
    assert message(caught).replace(str(file), "FILE").startswith(text)


FIRST: Tables = {
    "seq": {"name": "small", "weights": "random"},
    "data": {"name": "folder", "path": ["/x"]},
    "optim": {"lr": 0.1},
}


def test_the_run_file_of_a_run_repeats_it(registry: Registry, tmp_path: Path) -> None:
    tables = resolved(registry, FIRST)
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(tables))
    assert read_run_file(file) == tables
    assert resolved(registry, read_run_file(file)) == tables


def test_the_run_file_of_a_run_needs_no_preset(registry: Registry) -> None:
    """It repeats the run after the preset was changed or is gone."""
    tables = resolved(registry, FIRST)
    tables["seq"]["name"] = "gone"
    settings = seq_settings(registry, tables)
    assert (settings["num_layers"], settings["weights"]) == (2, "random")


def test_a_flag_switches_the_encoder_of_a_run_file_wholly(registry: Registry) -> None:
    settings = seq_settings(registry, resolved(registry, FIRST), {"seq": {"name": "large"}})
    assert settings == seq_settings(registry, {"seq": {"name": "large"}})
    assert settings["checkpoint"] is None


def test_the_run_file_of_a_run_lies_over_a_recipe_wholly(registry: Registry) -> None:
    recipe = {"seq": {"name": "large", "checkpoint": {"url": "https://example.org/other.pt"}}}
    tables = resolved(registry, {"seq": {"name": "large"}})
    assert seq_settings(registry, recipe, tables)["checkpoint"] is None


def test_single_settings_can_be_changed_over_the_run_file_of_a_run(registry: Registry) -> None:
    changed = seq_settings(registry, resolved(registry, FIRST), {"seq": {"num_layers": 9}})
    assert changed == {**seq_settings(registry, FIRST), "num_layers": 9}
