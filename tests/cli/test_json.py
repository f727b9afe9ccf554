"""JSON of ``list``, ``show`` and ``plugins``: the rows of the text, with stable keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
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
    text = esmgn("list").out
    assert re.findall(r"^  (\S+)  ", text, re.MULTILINE) == [item["name"] for item in listed]
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
    assert (item["package"], item["component_package"]) == ("esmgn", "esmgn")
    assert item["component_license"]


PROBE = """schema = 1
[seq.tiny_probe]
component = "esm2"
summary = "A small ESM-2"
[seq.lost]
component = "no_such_component"
summary = "Nothing provides it"
[recipe.probe]
summary = "A recipe"
run = { seq = "tiny_probe", struct = "gearnet" }
[recipe.lost_probe]
summary = "A recipe that needs a missing component"
run = { seq = "lost" }
"""


@pytest.fixture
def probe(host: PluginHost) -> None:
    """A plugin without components, whose entries name components of esmgn."""
    module = host.install("probe")
    Path(str(module.__file__)).with_name("registry.toml").write_text(PROBE)


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("filter_", [("--third-party",), ("--plugin", "probe"), ("--plugin", "esmgn-probe")])
def test_presets_and_recipes_belong_to_the_plugin_that_brings_them(
    esmgn: Esmgn, filter_: tuple[str, ...]
) -> None:
    found = {item["name"]: item for item in records(esmgn, "list", *filter_)}
    assert list(found) == ["tiny_probe", "lost", "probe", "lost_probe"]
    assert {(item["plugin"], item["package"], item["version"]) for item in found.values()} == {
        ("probe", "esmgn-probe", "1.0")
    }
    assert found["tiny_probe"]["component_package"] == "esmgn"
    assert "license" not in found["tiny_probe"]
    text = esmgn("list", *filter_).out
    assert all(f"  {name} " in text for name in found)


@pytest.mark.usefixtures("probe")
def test_what_needs_a_missing_component_is_not_usable(esmgn: Esmgn) -> None:
    usable = records(esmgn, "list", "--third-party", "--usable")
    assert [item["name"] for item in usable] == ["tiny_probe", "probe"]
    out = " ".join(esmgn("list", "--third-party").out.split())
    assert "Nothing provides it; unknown sequence encoder 'no_such_component'" in out
    assert "A recipe that needs a missing component; preset 'lost' needs the sequence encoder" in out


def test_entries_of_the_user_are_not_of_esmgn(host: PluginHost, esmgn: Esmgn) -> None:
    host.user_registry('schema = 1\n[seq.mine]\ncomponent = "esm2"\nsummary = "Mine"\n')
    [item] = records(esmgn, "list", "--third-party")
    assert (item["name"], item["package"], item["component_package"]) == ("mine", "", "esmgn")


@pytest.mark.parametrize("name", ["train", "reference", "residue_type+distance"])
def test_tables_have_no_json(esmgn: Esmgn, name: str) -> None:
    done = esmgn("show", name, "--json")
    assert (done.status, done.out) == (2, "")
    assert f"--json shows components, presets and recipes, not '{name}'" in done.err
    assert esmgn("show", name).status == 0


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
