"""``esmgn show``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from esmgn_cli.settings_text import settings_text
from esmgn_core.host.registry import discover
from esmgn_core.settings import (
    CacheTable,
    ComponentSettings,
    InputsTable,
    LengthTable,
    OptimTable,
    TrainTable,
)
from esmgn_core.spec import ComponentSpec, Kind

from ..conftest import PluginHost
from .conftest import Esmgn


class Source(ComponentSettings):
    url: str = "x"
    """Where it is."""


class Encoder:
    class Settings(ComponentSettings):
        hidden_dim: int = Field(512, ge=1, le=4096)
        """Width of every layer."""
        dropout: float = Field(0.0, ge=0, lt=1)
        """Share of values set to zero, in ``forward`` of training only; a text that is long enough to
        need another line."""
        readout: Literal["sum", "mean"] = "sum"
        concat: bool = True
        cap: int | None = Field(None, ge=1)
        path: tuple[Path, ...] = ()
        sizes: list[int] = Field(default_factory=lambda: [1, 2])
        weights: Literal["pretrained", "random"] | Path = "pretrained"
        source: Source | None = None
        mirror: Source = Source()


SETTINGS = """\
  hidden_dim = 512                integer >= 1, <= 4096
      Width of every layer.
  dropout = 0.0                   number >= 0, < 1
      Share of values set to zero, in 'forward' of training only; a text that is long enough to need
      another line.
  readout = "sum"                 "sum" | "mean"
  concat = true                   true | false
  cap                             integer >= 1, not set
  path = []                       list of path
  sizes = [1, 2]                  list of integer
  weights = "pretrained"          "pretrained" | "random" | path
  source                          table, not set
  mirror                          table
      url = "x"
"""


def test_tasks_trained_together_are_shown_with_a_table_for_each(esmgn: Esmgn) -> None:
    text = esmgn("show", "residue_type+distance").out
    assert "      residue_type = 1.0\n      distance = 1.0\n" in text
    assert "Predict the types of masked residues; see: esmgn show residue_type" in text
    assert "      num_samples = 256\n" in text


@pytest.fixture
def encoder(host: PluginHost) -> PluginHost:
    host.install("egnn", host.component(Kind.STRUCT, "egnn", Encoder, "A test encoder"))
    return host


@pytest.mark.usefixtures("encoder")
def test_a_component_is_shown_with_every_setting(esmgn: Esmgn) -> None:
    status, out, err = esmgn("show", "egnn")
    assert (status, err) == (0, "")
    assert out == (
        "structure encoder 'egnn': A test encoder\n"
        "component egnn (target_struct_egnn:Component), plugin egnn, esmgn-egnn 1.0\n" + SETTINGS
    )


def test_a_preset_is_shown_with_its_values_and_its_file(
    encoder: PluginHost, esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'schema = 1\n[struct.small]\ncomponent = "egnn"\nsummary = "Small"\n'
        'settings = { hidden_dim = 8, source = { url = "y" } }\n'
    )
    monkeypatch.setenv("ESMGN_REGISTRY", str(file))
    encoder.entries.reverse()
    out = esmgn("show", "small").out
    assert out.startswith(
        f"structure encoder preset 'small': Small\nfrom {file}\n"
        "component egnn (target_struct_egnn:Component), plugin egnn, esmgn-egnn 1.0\n"
        "  hidden_dim = 8                  integer >= 1, <= 4096\n"
    )
    assert '  source                          table\n      url = "y"\n' in out


def test_a_component_without_settings(host: PluginHost, esmgn: Esmgn) -> None:
    component = type("Plain", (), {"Settings": type("Settings", (ComponentSettings,), {})})
    host.install("egnn", host.component(Kind.STRUCT, "egnn", component))
    assert esmgn("show", "egnn").out.endswith("\n  no settings\n")


def test_a_name_of_two_kinds_is_shown_twice(host: PluginHost, esmgn: Esmgn) -> None:
    host.install("egnn", *(host.component(kind, "egnn", Encoder) for kind in (Kind.STRUCT, Kind.GRAPH)))
    out = esmgn("show", "egnn").out
    assert "structure encoder 'egnn'" in out
    assert "\n\ngraph builder 'egnn'" in out


def test_a_recipe_is_shown_with_its_tables(esmgn: Esmgn) -> None:
    lines = esmgn("show", "quickstart").out.splitlines()
    assert lines[0].startswith("recipe 'quickstart': ")
    assert lines[1].startswith("from ")
    assert '  seq = {name = "esm2_tiny"}' in lines


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("cache", CacheTable),
        ("inputs", InputsTable),
        ("length", LengthTable),
        ("optim", OptimTable),
        ("train", TrainTable),
    ],
)
def test_the_engines_tables_are_shown(esmgn: Esmgn, name: str, model: type[ComponentSettings]) -> None:
    out = esmgn("show", name).out
    assert out == f"table [{name}]\n{settings_text(model)}\n"
    assert all(f"\n  {setting}" in out for setting in model.model_fields)


def test_bounds_and_choices_of_engine_settings(esmgn: Esmgn) -> None:
    assert (
        '  precision = "auto"              "auto" | "fp32" | "tf32" | "bf16" | "fp16"\n'
        in esmgn("show", "train").out
    )
    assert "[number >= 0, < 1, number >= 0, < 1]" in esmgn("show", "optim").out


@pytest.mark.parametrize("kind", Kind)
def test_everything_that_is_listed_can_be_shown(esmgn: Esmgn, kind: Kind) -> None:
    for name in discover().names(kind):
        status, out, err = esmgn("show", name)
        assert (status, err) == (0, "")
        assert out.count("'") >= 2


def test_an_unknown_name(esmgn: Esmgn) -> None:
    assert esmgn("show", "gearnett") == (
        2,
        "",
        "error: unknown name 'gearnett'\n  did you mean: gearnet?\n  see: esmgn list\n",
    )


def test_a_name_that_two_plugins_claim(host: PluginHost, esmgn: Esmgn) -> None:
    for plugin in ("first", "second"):
        host.install(plugin, host.component(Kind.STRUCT, "egnn", Encoder))
    status, _, err = esmgn("show", "egnn")
    assert status == 2
    assert "error: structure encoder 'egnn' is claimed by 2 plugins" in err


def test_a_component_without_its_package_is_shown_without_settings(host: PluginHost, esmgn: Esmgn) -> None:
    host.install(
        "far",
        ComponentSpec(
            Kind.TRACKER, "far", "no_such_package:Far", "Logs far", requires={"no_such_package": "far[x]"}
        ),
    )
    status, out, err = esmgn("show", "far")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "tracker 'far': Logs far",
        "component far (no_such_package:Far), plugin far, esmgn-far 1.0",
        "its settings cannot be shown without its package",
        "  tracker 'far' needs a package that cannot be imported: No module named 'no_such_package'",
        "  install it: pip install 'far[x]'",
        "  or choose another tracker: esmgn list tracker",
    ]


def test_a_component_that_cannot_be_loaded(host: PluginHost, esmgn: Esmgn) -> None:
    host.install("egnn", host.component(Kind.STRUCT, "egnn"))
    status, out, err = esmgn("show", "egnn")
    assert (status, out) == (2, "")
    assert err.startswith("error: cannot load structure encoder 'egnn' from target_struct_egnn:Component: ")
