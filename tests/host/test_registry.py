"""Discovery of plugins, and from names to classes."""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from esmgn_core.errors import PluginError, SettingsError, UnknownComponentError
from esmgn_core.host.registry import discover
from esmgn_core.spec import ComponentSpec, Kind

from ..conftest import PluginHost

SHIPPED = sorted(
    entry.name for entry in entry_points(group="esmgn") if entry.dist and entry.dist.name == "esmgn"
)


class Component:
    pass


def test_shipped_plugins_come_through_the_same_entry_points_as_strangers(host: PluginHost) -> None:
    host.install("egnn", host.component(Kind.STRUCT, "egnn"))
    registry = discover()
    assert {*SHIPPED, "esm2", "egnn"} <= {plugin.name for plugin in registry.plugins}
    assert {"gearnet", "egnn"} <= set(registry.names(Kind.STRUCT))


@pytest.mark.parametrize("name", SHIPPED)
def test_any_plugin_can_be_switched_off_shipped_ones_included(
    host: PluginHost, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_DISABLE", f"other, {name}")
    host.install("other")
    [plugin] = [plugin for plugin in discover().plugins if plugin.name == name]
    assert plugin.disabled
    assert plugin.problem == "switched off (ESMGN_DISABLE)"
    assert plugin.components == ()


def test_a_disabled_plugin_is_not_even_imported(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_DISABLE", "egnn")
    bare_host.install("egnn", error=RuntimeError("imported"))
    assert discover().warnings == ()


def test_the_users_registry_can_switch_a_plugin_off(
    bare_host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))
    file = tmp_path / "mine.toml"
    file.write_text('schema = 1\ndisabled = ["egnn"]')
    monkeypatch.setenv("ESMGN_REGISTRY", str(file))
    [plugin] = discover().plugins
    assert plugin.problem == f"switched off (disabled in {file})"


def test_disabling_a_plugin_that_is_not_there_is_a_warning(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.install("gearnet")
    monkeypatch.setenv("ESMGN_DISABLE", "gearnett")
    assert discover().warnings == (
        "no plugin or package is called 'gearnett' (ESMGN_DISABLE), did you mean: gearnet?",
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("no module named 'foo'"), "ImportError: no module named 'foo'"),
        (RuntimeError("no licence"), "RuntimeError: no licence"),
        (SystemExit(1), "SystemExit: 1"),
    ],
)
def test_a_plugin_that_raises_is_a_line_with_its_reason_and_the_rest_works(
    bare_host: PluginHost, error: BaseException, reason: str
) -> None:
    bare_host.install("bad", error=error)
    bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))
    registry = discover()
    assert {plugin.name: plugin.problem for plugin in registry.plugins} == {"bad": reason, "egnn": ""}
    assert registry.names(Kind.STRUCT)[0] == "egnn"
    assert registry.warnings == (f"plugin 'bad' (esmgn-bad 1.0) is not in use: {reason}",)


def test_strict_mode_raises_the_plugins_own_error(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_STRICT", "1")
    bare_host.install("bad", error=RuntimeError("no licence"))
    with pytest.raises(RuntimeError, match="no licence"):
        discover()


def test_a_misspelt_hook_breaks_the_plugin_and_leaves_nothing_of_it(bare_host: PluginHost) -> None:
    bare_host.install("bad", bare_host.component(Kind.STRUCT, "bad"), esmgn_componentz=lambda: None)
    registry = discover()
    assert "unknown hook 'esmgn_componentz'" in registry.plugins[0].problem
    assert "bad" not in registry.names(Kind.STRUCT)
    assert not registry.manager.has_plugin("bad")


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (
            lambda: ["gearnet"],
            "PluginError: esmgn_components returned 'gearnet', expected ComponentSpec objects",
        ),
        (
            lambda: None,
            "PluginError: esmgn_components returned nothing: return a list of ComponentSpec objects",
        ),
        (
            lambda: ComponentSpec(Kind.STRUCT, "egnn", "m:C", ""),
            "PluginError: esmgn_components returned one ComponentSpec: return a list, [ComponentSpec(...)]",
        ),
        (
            lambda: [ComponentSpec("struct", "egnn", "m:C", "")],
            "TypeError: kind of component 'egnn' must be a Kind, got 'struct'",
        ),
        (
            lambda: [ComponentSpec(Kind.STRUCT, "egnn", "m.C", "")],
            "ValueError: target of component 'egnn' must be 'package.module:Class', got 'm.C'",
        ),
        (
            lambda: [ComponentSpec(Kind.STRUCT, "egnn", f"m:{name}", "") for name in "AB"],
            "PluginError: esmgn_components declares struct 'egnn' twice",
        ),
    ],
)
def test_a_wrong_declaration_breaks_only_its_plugin(
    bare_host: PluginHost, declared: object, reason: str
) -> None:
    bare_host.install("bad", esmgn_components=declared)
    assert discover().plugins[0].problem == reason


def test_switching_one_of_two_claimants_off_settles_it(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("first", "second"):
        bare_host.install(package, bare_host.component(Kind.STRUCT, "egnn"))
    monkeypatch.setenv("ESMGN_DISABLE", "second")
    assert discover().find(Kind.STRUCT, "egnn").spec.name == "egnn"


def test_a_hook_without_its_mark_is_noted(bare_host: PluginHost) -> None:
    module = bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))
    vars(module)["esmgn_notice"] = lambda text: None  # noqa: ARG005 - a hook
    registry = discover()
    assert registry.plugins[0].notes == ("esmgn_notice is not used: @hookimpl is missing",)
    assert registry.warnings == (
        "plugin 'egnn' (esmgn-egnn 1.0): esmgn_notice is not used: @hookimpl is missing",
    )


def test_a_misspelled_hook_is_noted(bare_host: PluginHost) -> None:
    module = bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))

    def esmgn_componets() -> list[object]:
        return []

    vars(module)["esmgn_componets"] = esmgn_componets
    [note] = discover().plugins[0].notes
    assert note == "esmgn_componets is not a hook, did you mean: esmgn_components?"


def test_a_module_that_imports_torch_is_noted_with_its_cost(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))
    [entry] = bare_host.entries
    load = entry.load

    def slow() -> ModuleType:
        monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
        module: ModuleType = load()
        return module

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    entry.load = slow
    [note] = discover().plugins[0].notes
    assert re.fullmatch(
        r"its module installed_egnn imports torch, \d+ ms in every command: import it .*", note
    )


def test_every_module_that_imports_torch_is_noted(bare_host: PluginHost) -> None:
    """Python imports it once: the second of two such plugins costs nothing, so its cost is unknown."""
    import torch

    for name in ("first", "second"):
        module = bare_host.install(name, bare_host.component(Kind.STRUCT, name))
        if name == "second":
            vars(module)["torch"] = torch
    notes = [plugin.notes for plugin in discover().plugins]
    assert notes[0] == ()
    assert "its module installed_second imports torch, as another plugin does: " in notes[1][0]


def test_the_same_name_under_two_kinds_is_no_conflict(bare_host: PluginHost) -> None:
    bare_host.install("first", bare_host.component(Kind.STRUCT, "graph"))
    bare_host.install("second", bare_host.component(Kind.GRAPH, "graph"))
    assert discover().warnings == ()


def plugin_registry(module: ModuleType, text: str) -> Path:
    file = Path(str(module.__file__)).with_name("registry.toml")
    file.write_text(text)
    return file


EGNN_PRESET = (
    'schema = 1\n[struct.egnn_small]\ncomponent = "egnn"\nsummary = "Small"\nsettings = { width = 8 }\n'
)


def test_a_plugin_brings_presets_in_a_registry_of_its_own(bare_host: PluginHost) -> None:
    module = bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn"))
    file = plugin_registry(module, EGNN_PRESET)
    named = discover().find(Kind.STRUCT, "egnn_small")
    assert named.preset is not None
    assert (named.spec.name, dict(named.settings), named.preset.origin) == ("egnn", {"width": 8}, str(file))


def test_a_broken_registry_breaks_only_its_plugin(bare_host: PluginHost) -> None:
    file = plugin_registry(bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn")), "schema = ")
    bare_host.install("gvp", bare_host.component(Kind.STRUCT, "gvp"))
    registry = discover()
    assert registry.plugins[0].problem.startswith(f"SettingsError: cannot read registry {file}")
    assert registry.find(Kind.STRUCT, "gvp").spec.name == "gvp"


@pytest.mark.parametrize("text", ['disabled = ["gearnet"]', '[default]\nstruct = "egnn"'])
def test_a_plugin_cannot_switch_others_off_or_change_defaults(bare_host: PluginHost, text: str) -> None:
    plugin_registry(bare_host.install("egnn"), f"schema = 1\n{text}")
    assert "only the user's own registry may disable plugins" in discover().plugins[0].problem


def test_the_users_registry_lies_over_that_of_a_plugin(
    bare_host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_registry(bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn")), EGNN_PRESET)
    (tmp_path / "mine.toml").write_text(EGNN_PRESET.replace("8", "16"))
    monkeypatch.setenv("ESMGN_REGISTRY", str(tmp_path / "mine.toml"))
    assert discover().find(Kind.STRUCT, "egnn_small").settings == {"width": 16}


def test_a_broken_user_registry_is_the_users_to_mend(
    bare_host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.install("egnn")
    (tmp_path / "mine.toml").write_text("schema = 1\n[structt.x]")
    monkeypatch.setenv("ESMGN_REGISTRY", str(tmp_path / "mine.toml"))
    with pytest.raises(SettingsError, match=r"unknown section \[structt\]"):
        discover()


def test_an_unknown_name_is_answered_with_the_nearest_and_all(bare_host: PluginHost) -> None:
    bare_host.install("gnn", *(bare_host.component(Kind.FUSE, name) for name in ("serial", "cross")))
    with pytest.raises(UnknownComponentError) as caught:
        discover().find(Kind.FUSE, "serail")
    assert str(caught.value) == (
        "unknown fuser 'serail' (--fuse)\n"
        "  did you mean: serial?\n"
        "  available: cross, serial\n"
        "  see: esmgn list fuse"
    )


def test_an_unknown_name_may_belong_to_a_plugin_that_is_not_in_use(bare_host: PluginHost) -> None:
    bare_host.install("egnn", error=ImportError("no module named 'foo'"))
    with pytest.raises(UnknownComponentError) as caught:
        discover().find(Kind.FUSE, "egnn", where="run.toml")
    assert str(caught.value) == (
        "unknown fuser 'egnn' (run.toml)\n"
        "  available: none\n"
        "  plugins not in use: egnn; see: esmgn plugins\n"
        "  see: esmgn list fuse"
    )


@pytest.mark.usefixtures("bare_host")
def test_a_preset_of_a_missing_component_says_so() -> None:
    with pytest.raises(UnknownComponentError) as caught:
        discover().find(Kind.SEQ, "esm2_8m")
    assert str(caught.value).startswith(
        "preset 'esm2_8m' needs the sequence encoder 'esm2', which no plugin provides\n"
        "  the preset is defined in "
    )


def test_an_unknown_recipe(host: PluginHost) -> None:
    host.install("egnn")
    with pytest.raises(
        UnknownComponentError, match=r"unknown recipe 'quickstrat' \(--recipe\)\n  did you mean: quickstart"
    ):
        discover().recipe("quickstrat")


def test_loading_gives_the_class(bare_host: PluginHost) -> None:
    bare_host.install("egnn", bare_host.component(Kind.STRUCT, "egnn", Component))
    registry = discover()
    assert registry.load(registry.component(Kind.STRUCT, "egnn")) is Component


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "no_such_module:C",
            "ModuleNotFoundError: No module named 'no_such_module'\n  see the traceback: ESMGN_STRICT=1",
        ),
        (
            "target_struct_egnn:Nothing",
            "AttributeError: module 'target_struct_egnn' has no attribute 'Nothing'",
        ),
    ],
)
def test_a_target_that_cannot_be_imported(bare_host: PluginHost, target: str, message: str) -> None:
    bare_host.component(Kind.STRUCT, "egnn")
    bare_host.install("egnn", ComponentSpec(Kind.STRUCT, "egnn", target, ""))
    registry = discover()
    with pytest.raises(PluginError) as caught:
        registry.load(registry.component(Kind.STRUCT, "egnn"))
    assert str(caught.value).startswith(f"cannot load structure encoder 'egnn' from {target}: {message}")


def test_a_target_must_be_a_class(bare_host: PluginHost) -> None:
    spec = bare_host.component(Kind.STRUCT, "egnn", component=lambda: None)
    bare_host.install("egnn", spec)
    with pytest.raises(
        PluginError, match="structure encoder 'egnn': target_struct_egnn:Component is not a class"
    ):
        discover().load(spec)
