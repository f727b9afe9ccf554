"""JSON of ``list``, ``show`` and ``plugins``: the rows of the text, with stable keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn


def records(esmgn: Esmgn, *arguments: str) -> list[dict[str, Any]]:
    done = esmgn(*arguments, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert isinstance(found, list)
    return found


def test_a_list_has_the_names_of_the_text(esmgn: Esmgn) -> None:
    registry = discover()
    listed = records(esmgn, "list")
    for kind in Kind:
        names = [item["name"] for item in listed if item["kind"] == kind]
        assert names == registry.names(kind)
    assert [item["name"] for item in listed if item["type"] == "recipe"] == list(registry.catalogue.recipes)
    component = {"plugin", "package", "version", "license", "citation", "reads", "needs", "target"}
    for item in listed:
        assert {"type", "kind", "name", "summary"} <= item.keys()
        assert item["type"] != "component" or component <= item.keys()


def test_lists_can_be_narrowed(esmgn: Esmgn, host: PluginHost) -> None:
    host.install("rings", host.component(Kind.STRUCT, "rings"))
    assert [item["name"] for item in records(esmgn, "list", "--third-party")] == ["rings"]
    assert [item["name"] for item in records(esmgn, "list", "--plugin", "esmgn-rings")] == ["rings"]
    assert {item["plugin"] for item in records(esmgn, "list", "struct", "--plugin", "gearnet")} == {"gearnet"}
    assert esmgn("list", "--third-party").out.splitlines() == [
        "structure encoders (--struct)",
        "  rings  plugin rings  A test",
    ]
    assert "did you mean: rings" in esmgn("list", "--plugin", "ring").err


def test_usable_entries_need_no_installation(
    esmgn: Esmgn, host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    spec = replace(host.component(Kind.STRUCT, "rings"), requires={"no_such_module": "rings-extra"})
    host.install("rings", spec)
    monkeypatch.setenv("COLUMNS", "100")
    [item] = records(esmgn, "list", "--third-party")
    assert item["needs"] == "pip install 'rings-extra'"
    assert records(esmgn, "list", "--third-party", "--usable") == []


def test_a_preset_has_settings_weights_and_size(esmgn: Esmgn) -> None:
    [item] = records(esmgn, "show", "seq:esm2_8m", "--size")
    assert (item["type"], item["component"], item["output_dim"]) == ("preset", "esm2", 320)
    assert item["settings"]["num_layers"]["value"] == 6
    assert item["weights"]["md5"] == "8039fc9cee7f71cd2633b13b5a38ff50"
    assert {"path", "bytes"} <= item["weights"].keys()
    assert item["license"]


def test_the_size_in_the_text_is_that_of_a_built_encoder(esmgn: Esmgn) -> None:
    from esmgn_core.host.configure import configure
    from esmgn_core.model.compose import resolve

    tables = {"seq": {"name": "esm2_tiny"}, "fuse": {"name": "sequence"}}
    built = resolve(discover(), configure(discover(), [tables])).encoder().sequence
    number = sum(parameter.numel() for parameter in built.parameters())  # type: ignore[attr-defined]  # a module
    out = esmgn("show", "esm2_tiny", "--size").out
    assert f"seq 'esm2_tiny': {number:,} parameters, output width {built.output_dim}" in out


def test_a_kind_before_a_name_narrows_what_is_shown(esmgn: Esmgn) -> None:
    assert [item["kind"] for item in records(esmgn, "show", "ec")] == ["downstream", "data", "recipe"]
    assert [item["kind"] for item in records(esmgn, "show", "data:ec")] == ["data"]
    assert esmgn("show", "recipe:ec").out.startswith("recipe 'ec'")


def test_a_plugin_is_described(esmgn: Esmgn, host: PluginHost) -> None:
    host.install("rings", host.component(Kind.STRUCT, "rings"), esmgn_notice=lambda text: None)  # noqa: ARG005
    [item] = records(esmgn, "plugins", "rings")
    assert item["components"] == ["struct:rings"]
    assert item["observers"] == ["esmgn_notice"]
    assert (item["state"], item["commands"], item["version"]) == ("in use", False, "1.0")
    assert "  observers   esmgn_notice" in esmgn("plugins", "rings").out
    assert len(records(esmgn, "plugins")) == len(discover().plugins)
    assert "did you mean: rings" in esmgn("plugins", "ring").err
