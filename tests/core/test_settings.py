"""Settings: what is accepted, and what a user reads about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from esmgn_core.errors import SettingsError
from esmgn_core.host.components import random_weights
from esmgn_core.settings import (
    ComponentSettings,
    ComponentTable,
    InputsTable,
    LengthTable,
    OptimTable,
    RunConfig,
    TrainTable,
    validated,
)
from esmgn_core.spec import PARTS, Kind


class Inner(ComponentSettings):
    url: str
    size: int = 1


class Settings(ComponentSettings):
    hidden_dim: int = Field(512, ge=1, le=4096)
    dropout: float = Field(0.0, ge=0, lt=1)
    readout: Literal["sum", "mean"] = "sum"
    concat: bool = True
    path: tuple[Path, ...] = ()
    weights: Literal["pretrained", "random"] | Path = "pretrained"
    checkpoint: Inner | None = None

    @model_validator(mode="after")
    def _even(self) -> Settings:
        if self.hidden_dim % 2:
            raise ValueError("hidden_dim must be even")
        return self


def message(values: dict[str, Any], model: type[BaseModel] = Settings) -> list[str]:
    """Lines about wrong settings, without the first and the last."""
    with pytest.raises(SettingsError) as caught:
        validated(model, values, what="struct 'gearnet' (run.toml)", see="esmgn show gearnet")
    return str(caught.value).splitlines()


def test_every_wrong_setting_has_its_line() -> None:
    assert message({"hidden_dim": "wide", "drop": 0.1}) == [
        "invalid settings for struct 'gearnet' (run.toml)",
        '  hidden_dim  expected an integer, got "wide"',
        "  drop        unknown setting, did you mean: dropout?",
        "  see: esmgn show gearnet",
    ]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("hidden_dim", 0, "expected a number >= 1, got 0"),
        ("hidden_dim", 5000, "expected a number <= 4096, got 5000"),
        ("hidden_dim", 1.5, "expected an integer, got 1.5"),
        ("hidden_dim", [1], "expected an integer, got [1]"),
        ("dropout", "much", 'expected a number, got "much"'),
        ("dropout", 1.0, "expected a number < 1.0, got 1.0"),
        ("dropout", float("nan"), "expected a finite number, got nan"),
        ("readout", "max", 'expected "sum" or "mean", got "max"'),
        ("concat", "maybe", 'expected true or false, got "maybe"'),
        ("path", "here", 'expected a list, got "here"'),
        ("checkpoint", 3, "expected a table, got 3"),
        ("weights", 3, 'expected "pretrained" or "random", got 3'),
    ],
)
def test_the_error_for_a_wrong_value_names_the_expected_type(name: str, value: object, text: str) -> None:
    assert message({name: value})[1] == f"  {name}  {text}"


def test_a_list_item_is_named_by_its_number() -> None:
    assert message({"path": ["a", 1]})[1] == "  path.1  expected a path, got 1"


def test_a_setting_within_a_table_is_named_by_its_whole_path() -> None:
    assert message({"checkpoint": {"siz": 3}})[1:-1] == [
        "  checkpoint.url  is required",
        "  checkpoint.siz  unknown setting, did you mean: size?",
    ]


def test_settings_that_do_not_go_together() -> None:
    assert message({"hidden_dim": 3})[1] == "  together  hidden_dim must be even"


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.hidden_dim = 3  # type: ignore[misc]  # the mistake


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run does not depend on where it starts once its run file is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    settings = Settings(path=("a/b", "/c", "~/d"), weights="x.pt")
    assert settings.path == (tmp_path / "a/b", Path("/c"), Path("/home/me/d"))
    assert settings.weights == tmp_path / "x.pt"
    assert settings.model_dump(mode="json")["path"] == [str(tmp_path / "a/b"), "/c", "/home/me/d"]


def test_words_that_are_no_paths_stay() -> None:
    assert Settings(weights="random").weights == "random"


@pytest.mark.parametrize("model", [InputsTable, LengthTable, OptimTable, TrainTable])
def test_every_engine_setting_has_a_default_and_a_description(model: type[ComponentSettings]) -> None:
    model()
    assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("model", "values", "text"),
    [
        (OptimTable, {"lr": 0}, "  lr  expected a number > 0.0, got 0"),
        (OptimTable, {"seq_lr_scale": -0.1}, "  seq_lr_scale  expected a number >= 0.0, got -0.1"),
        (OptimTable, {"betas": [0.9, 1]}, "  betas.1  expected a number < 1.0, got 1"),
        (
            LengthTable,
            {"policy": "window", "max_residues": 100, "overlap": 100},
            "  together  overlap must be less than max_residues",
        ),
        (TrainTable, {"epoch": 3}, "  epoch  unknown setting, did you mean: epochs?"),
        (TrainTable, {"max_steps": 0}, "  max_steps  expected a number >= 1, got 0"),
        (
            TrainTable,
            {"precision": "fp8"},
            '  precision  expected "auto", "fp32", "tf32", "bf16" or "fp16", got "fp8"',
        ),
    ],
)
def test_engine_settings_are_bounded(model: type[BaseModel], values: dict[str, Any], text: str) -> None:
    assert message(values, model)[1] == text


def config(written_in: Mapping[str, str]) -> RunConfig:
    tables = {kind.value: ComponentTable(name="x") for kind in PARTS}
    return RunConfig(**tables, written_in=written_in)


def test_where_settings_were_written_is_no_part_of_the_run() -> None:
    assert config({"struct": " (run.toml)"}) == config({})
    assert "written_in" not in config({"struct": " (run.toml)"}).model_dump()


def test_there_is_a_table_for_every_kind() -> None:
    assert {*RunConfig.model_fields} == {
        *PARTS,
        Kind.TRACKER,
        *("cache", "inputs", "length", "optim", "train"),
        *("reference", "set_above", "written_in"),
    }


def test_a_components_table_keeps_its_settings_beside_its_name() -> None:
    table = ComponentTable(name="esm2_8m", component="esm2", num_layers=6)
    assert table.settings == {"num_layers": 6}


def test_random_weights_are_a_setting_only_where_it_takes_the_word() -> None:
    class Named(ComponentSettings):
        weights: Literal["pretrained", "random"] | Path = "pretrained"

    class File(ComponentSettings):
        weights: Path | None = None

    assert random_weights(Named) == {"weights": "random"}
    assert random_weights(File) == random_weights(ComponentSettings) == {}
