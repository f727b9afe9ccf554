"""``esmgn list``."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn


def test_every_name_is_listed_under_the_heading_of_its_kind(esmgn: Esmgn) -> None:
    sections = dict(section.split("\n", 1) for section in esmgn("list").out.split("\n\n"))
    registry = discover()
    for kind in Kind:
        lines = sections[f"{kind.long_name}s ({kind.chosen_by})"].splitlines()
        listed = [line.split()[0] for line in lines if not line.startswith("   ")]
        assert listed == (registry.names(kind) or ["none"])
    assert "quickstart" in sections["recipes (--recipe)"]


def test_a_line_has_name_origin_and_summary(esmgn: Esmgn) -> None:
    heading, *lines = esmgn("list", "seq").out.splitlines()
    assert heading == "sequence encoders (--seq)"
    rows = [re.split("  +", line.strip()) for line in lines]
    assert ["esm2", "plugin esm2", "Protein language model ESM-2, computed without padding"] in rows
    assert ["esm2_650m", "preset of esm2", "ESM-2, 33 layers, 1280-d, UniRef50/D"] in rows


def test_a_missing_requirement_shows_how_to_install_it(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.setitem(sys.modules, "transformers", importlib.util)
    out = esmgn("list").out
    summary = "DimeNet++: messages from distances and angles; needs pip install 'esmgn[pyg]'"
    assert summary in " ".join(out.split())
    assert "esmgn[transformers]" not in out


def test_a_preset_shows_the_missing_requirement_of_its_component(
    host: PluginHost, esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.install("far", replace(host.component(Kind.SEQ, "far"), requires={"no_such": "far[x]"}))
    file = tmp_path / "registry.toml"
    file.write_text('schema = 1\n[seq.far_wide]\ncomponent = "far"\nsummary = "Wide"\nsettings = {}\n')
    monkeypatch.setenv("ESMGN_REGISTRY", str(file))
    assert "Wide; needs pip install 'far[x]'" in esmgn("list", "seq").out


@pytest.mark.parametrize("kind", [*Kind, "recipe"])
def test_one_kind_at_a_time(esmgn: Esmgn, kind: str) -> None:
    status, out, err = esmgn("list", kind)
    assert (status, err) == (0, "")
    chosen_by = "--recipe" if kind == "recipe" else Kind(kind).chosen_by
    assert re.findall(r"^[a-z ]+s \((.+)\)$", out, re.MULTILINE) == [chosen_by]


@pytest.mark.parametrize("columns", [80, 100, 250])
def test_lines_fit_the_terminal_and_stay_readable(
    esmgn: Esmgn, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, esmgn("list").out.splitlines())) <= min(columns, 100)


def test_a_kind_without_names(bare_host: PluginHost, esmgn: Esmgn) -> None:
    bare_host.install("empty")
    assert esmgn("list", "struct").out == "structure encoders (--struct)\n  none\n"


def test_both_claimants_of_a_name_are_listed(bare_host: PluginHost, esmgn: Esmgn) -> None:
    for plugin in ("first", "second"):
        bare_host.install(plugin, bare_host.component(Kind.STRUCT, "egnn", summary=f"The {plugin}"))
    status, out, err = esmgn("list", "struct")
    assert status == 0
    assert out.splitlines()[1:] == [
        "  first:egnn   plugin first   The first",
        "  second:egnn  plugin second  The second",
    ]
    assert err == (
        "warning: structure encoder 'egnn' is claimed by 2 plugins: "
        "'first' (esmgn-first) and 'second' (esmgn-second)\n"
        "  what to do: esmgn plugins\n"
    )
    assert "  name one: first:egnn or second:egnn\n" in esmgn("plugins").out


def test_a_disabled_plugin_is_missing_from_the_list(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMGN_DISABLE", "gearnet")
    status, out, err = esmgn("list", "struct")
    assert (status, err) == (0, "")
    assert "gearnet" not in out


def test_a_mistyped_disabled_plugin_is_a_warning(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMGN_DISABLE", "esm3")
    status, _, err = esmgn("list")
    assert (status, err) == (
        0,
        "warning: no plugin or package is called 'esm3' (ESMGN_DISABLE), did you mean: esm2?\n",
    )


def test_an_overridden_preset_says_so_in_list_and_show(
    esmgn: Esmgn, tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('schema = 1\n[seq.esm2_8m]\ncomponent = "onehot"\nsummary = "Mine"\n')
    clean_environment.setenv("ESMGN_REGISTRY", str(file))
    listed = " ".join(esmgn("list", "seq").out.split())
    assert f"Mine; overridden by {file}" in listed
    shown = esmgn("show", "esm2_8m").out
    assert f"from {file}, which overrides " in shown
    assert "component esm2" in esmgn("show", "esmgn:esm2_8m").out
