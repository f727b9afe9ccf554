"""Names that several packages claim: nothing of esmgn is taken over, and everything has an address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.errors import PluginError, UnknownComponentError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.spec import ComponentSpec, Kind

from ..conftest import PluginHost


class Component:
    pass


def evil(host: PluginHost, *specs: ComponentSpec, registry: str = "", name: str = "evil") -> None:
    """Install a stranger's plugin with a registry."""
    module = host.install(name, *specs)
    Path(str(module.__file__)).with_name("registry.toml").write_text(f"schema = 1\n{registry}")


# Presets, recipes, weights and layouts


PRESET = '[seq.esm2_8m]\ncomponent = "onehot"\nsummary = "Evil"\n'


def test_a_plugin_does_not_replace_a_preset_of_esmgn(host: PluginHost) -> None:
    evil(host, registry=PRESET)
    registry = discover()
    assert registry.find(Kind.SEQ, "esm2_8m").spec.name == "esm2"
    assert registry.find(Kind.SEQ, "evil:esm2_8m").spec.name == "onehot"
    [warning] = registry.warnings
    assert warning == (
        "sequence encoder 'esm2_8m' of esmgn is claimed by plugin 'evil' (esmgn-evil) too: "
        "esmgn's is used\n"
        "  name the other: evil:esm2_8m\n"
        "  or switch it off: ESMGN_DISABLE=evil"
    )


def test_a_preset_cannot_have_the_name_of_a_component(host: PluginHost) -> None:
    evil(host, registry='[struct.gearnet]\ncomponent = "gvp"\nsummary = "Evil"\n')
    registry = discover()
    assert registry.find(Kind.STRUCT, "gearnet").spec.name == "gearnet"
    assert registry.find(Kind.STRUCT, "evil:gearnet").spec.name == "gvp"
    assert registry.warnings[0].startswith(
        "structure encoder 'gearnet' of esmgn is claimed by plugin 'evil' (esmgn-evil) too"
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.SEQ, "esm2_tiny"), (Kind.DOWNSTREAM, "ec"), (Kind.DATA, "go_mf")]
)
def test_a_component_does_not_replace_a_preset_of_esmgn(host: PluginHost, kind: Kind, name: str) -> None:
    shipped = discover().find(kind, name)
    discover.cache_clear()
    spec = host.component(kind, name, Component)
    host.install("evil", spec)
    registry = discover()
    assert registry.find(kind, name) == shipped
    assert registry.find(kind, f"evil:{name}").spec.target == spec.target
    with pytest.raises(UnknownComponentError):
        registry.component(kind, name)
    assert registry.warnings[0].startswith(
        f"{kind.long_name} '{name}' of esmgn is claimed by plugin 'evil' (esmgn-evil) too: esmgn's is used"
    )


@pytest.mark.usefixtures("bare_host")
def test_a_preset_with_the_name_of_its_own_plugins_component_is_refused(bare_host: PluginHost) -> None:
    spec = bare_host.component(Kind.STRUCT, "egnn", Component)
    evil(bare_host, spec, registry='[struct.egnn]\ncomponent = "egnn"\nsummary = "s"\n')
    assert "[struct.egnn] has the name of a component" in discover().plugins[0].problem


def test_a_component_and_a_preset_of_two_strangers_share_no_name(bare_host: PluginHost) -> None:
    bare_host.install("first", bare_host.component(Kind.STRUCT, "egnn", Component))
    bare_host.install("second", bare_host.component(Kind.STRUCT, "egnn", Component))
    other = bare_host.component(Kind.STRUCT, "gnn", Component)
    evil(bare_host, other, name="third", registry='[struct.egnn]\ncomponent = "gnn"\nsummary = "s"\n')
    registry = discover()
    with pytest.raises(PluginError, match="'egnn' is claimed by 3 plugins") as caught:
        registry.find(Kind.STRUCT, "egnn")
    assert "name one: first:egnn or second:egnn or third:egnn" in str(caught.value)
    assert registry.find(Kind.STRUCT, "third:egnn").spec.name == "gnn"
    assert registry.find(Kind.STRUCT, "first:egnn").spec.name == "first:egnn"


def test_a_plugin_does_not_replace_a_recipe(host: PluginHost) -> None:
    evil(host, registry='[recipe.ec]\nsummary = "Evil"\nrun = { seq = "onehot" }\n')
    registry = discover()
    assert registry.recipe("ec").summary.startswith("Published fine-tuning on EC numbers")
    assert registry.recipe("evil:ec").summary == "Evil"
    assert "recipe 'ec' of esmgn is claimed by plugin 'evil'" in registry.warnings[0]


def test_a_plugin_does_not_replace_published_weights_or_layouts(host: PluginHost) -> None:
    name = next(iter(discover().catalogue.weights))
    discover.cache_clear()
    weights = (
        f'[weights.{name}]\nurl = "https://x.org/x"\nlicense = "none"\nlayout = "gearnet"\nsummary = "Evil"\n'
    )
    layout = 'summary = "Evil"\nparts = { struct = "" }\nrun = { struct = "gvp" }\n'
    evil(host, registry=f"{weights}[layout.gearnet]\n{layout}")
    registry = discover()
    assert registry.entry("weights", name).summary != "Evil"
    assert registry.entry("weights", f"evil:{name}").summary == "Evil"
    assert registry.entry("layouts", "gearnet").summary != "Evil"
    assert registry.entry("layouts", "evil:gearnet").summary == "Evil"
    assert len(registry.warnings) == 2


def test_neither_of_two_strangers_has_the_plain_name(bare_host: PluginHost) -> None:
    for name in ("first", "second"):
        spec = bare_host.component(Kind.STRUCT, f"{name}_gnn", Component)
        evil(
            bare_host,
            spec,
            name=name,
            registry=f'[struct.wide]\ncomponent = "{name}_gnn"\nsummary = "Wide"\n',
        )
    registry = discover()
    with pytest.raises(PluginError) as caught:
        registry.find(Kind.STRUCT, "wide")
    assert str(caught.value) == (
        "structure encoder 'wide' is claimed by 2 plugins: "
        "'first' (esmgn-first) and 'second' (esmgn-second)\n"
        "  name one: first:wide or second:wide\n"
        "  or switch one off: ESMGN_DISABLE=first or ESMGN_DISABLE=second"
    )
    assert registry.find(Kind.STRUCT, "second:wide").spec.name == "second_gnn"


def test_the_users_file_overrides_and_it_is_recorded(host: PluginHost) -> None:
    shipped = discover().catalogue.presets[Kind.SEQ, "esm2_8m"].origin
    discover.cache_clear()
    host.user_registry(f"schema = 1\n{PRESET}")
    registry = discover()
    assert registry.find(Kind.SEQ, "esm2_8m").spec.name == "onehot"
    assert registry.catalogue.presets[Kind.SEQ, "esm2_8m"].overrides == shipped
    assert registry.find(Kind.SEQ, "esmgn:esm2_8m").spec.name == "esm2"
    assert registry.warnings == ()


def test_a_preset_of_the_user_cannot_have_the_name_of_a_component_either(host: PluginHost) -> None:
    file = host.user_registry('schema = 1\n[struct.gearnet]\ncomponent = "gvp"\nsummary = "Mine"\n')
    registry = discover()
    message = (
        f"registry {file}: [struct.gearnet] has the name of a structure encoder\n"
        "  give the preset another name"
    )
    assert registry.warnings == (message,)
    with pytest.raises(PluginError) as caught:
        registry.find(Kind.STRUCT, "gearnet")
    assert str(caught.value) == message
    assert registry.find(Kind.STRUCT, "gearnet:gearnet").spec.name == "gearnet"


def test_a_preset_of_the_user_settles_a_dispute(bare_host: PluginHost) -> None:
    for name in ("first", "second"):
        bare_host.install(name, bare_host.component(Kind.STRUCT, "egnn", Component))
    bare_host.user_registry('schema = 1\n[struct.egnn]\ncomponent = "second:egnn"\nsummary = "Mine"\n')
    assert discover().find(Kind.STRUCT, "egnn").spec.name == "second:egnn"


# Components


def test_a_component_of_esmgn_keeps_its_name(host: PluginHost) -> None:
    host.install("evil", host.component(Kind.STRUCT, "gearnet", Component))
    registry = discover()
    assert registry.component(Kind.STRUCT, "gearnet").target.startswith("esmgn_gearnet.")
    other = registry.component(Kind.STRUCT, "evil:gearnet")
    assert (other.name, registry.load(other)) == ("evil:gearnet", Component)
    assert "evil:gearnet" in registry.names(Kind.STRUCT)
    [warning] = registry.warnings
    assert warning.startswith(
        "structure encoder 'gearnet' of esmgn is claimed by plugin 'evil' (esmgn-evil) too"
    )


def test_a_preset_belongs_to_the_component_of_its_own_plugin(host: PluginHost) -> None:
    spec = host.component(Kind.STRUCT, "gearnet", Component)
    evil(host, spec, registry='[struct.gearnet_evil]\ncomponent = "gearnet"\nsummary = "Mine"\n')
    assert discover().find(Kind.STRUCT, "gearnet_evil").spec.target == spec.target


def test_a_component_of_two_strangers_is_an_error_when_it_is_used(bare_host: PluginHost) -> None:
    for package in ("first", "second"):
        bare_host.install(package, bare_host.component(Kind.STRUCT, "egnn"))
    bare_host.install("third", bare_host.component(Kind.STRUCT, "gvp"))
    registry = discover()
    assert registry.find(Kind.STRUCT, "gvp").spec.name == "gvp"
    assert registry.find(Kind.STRUCT, "second:egnn").spec.name == "second:egnn"
    with pytest.raises(PluginError) as caught:
        registry.find(Kind.STRUCT, "egnn")
    message = (
        "structure encoder 'egnn' is claimed by 2 plugins: "
        "'first' (esmgn-first) and 'second' (esmgn-second)\n"
        "  name one: first:egnn or second:egnn\n"
        "  or switch one off: ESMGN_DISABLE=first or ESMGN_DISABLE=second"
    )
    assert str(caught.value) == message
    assert registry.warnings == (message,)


def test_the_address_of_an_undisputed_name_is_the_name(host: PluginHost) -> None:
    host.install("egnn", host.component(Kind.STRUCT, "egnn", Component))
    registry = discover()
    assert registry.find(Kind.STRUCT, "egnn:egnn").spec.name == "egnn"
    assert registry.find(Kind.STRUCT, "gearnet:gearnet_edge").spec.name == "gearnet_edge"
    with pytest.raises(UnknownComponentError, match="unknown structure encoder 'egnn:gearnet'"):
        registry.find(Kind.STRUCT, "egnn:gearnet")


@pytest.mark.usefixtures("host")
def test_addresses_are_accepted_wherever_a_name_is() -> None:
    registry = discover()
    tables = parse_assignments(
        [
            *("seq.name=esmgn:esm2_tiny", "struct.name=gearnet:gearnet", "fuse.name=fusion:serial"),
            *("graph.name=gearnet:relational", "pretext.name=pretext:residue_type+pretext:distance"),
            *("data.name=datasets:sample", 'train.trackers=["trackers:tensorboard"]'),
        ]
    )
    config = configure(registry, [tables])
    components = [getattr(config, kind).component for kind in config.kinds]
    assert components == ["esm2", "gearnet", "serial", "relational", "residue_type+distance", "sample"]
    assert registry.recipe("esmgn:ec").name == "ec"


def test_a_run_file_finds_a_disputed_component_again(host: PluginHost) -> None:
    host.install("evil", host.component(Kind.STRUCT, "gearnet", Component))
    registry = discover()
    tables = {"struct": {"name": "evil:gearnet"}, "graph": {"name": "radius"}}
    config = configure(registry, [tables])
    assert config.struct is not None
    assert config.struct.component == "evil:gearnet"
    again = configure(registry, [{"struct": config.struct.model_dump(), "graph": {"name": "radius"}}])
    assert again.struct == config.struct


def test_a_disputed_task_can_be_combined(host: PluginHost) -> None:
    shipped = discover().component(Kind.PRETEXT, "distance")
    discover.cache_clear()
    host.install("evil", replace(shipped, name="distance"))
    registry = discover()
    tables = parse_assignments(
        ["pretext.name=evil:distance+distance", "pretext.evil:distance.num_samples=7", "seq.name=onehot"]
    )
    config = configure(registry, [tables])
    assert config.pretext is not None
    assert config.pretext.component == "evil:distance+distance"
    assert config.pretext.settings["evil:distance"]["num_samples"] == 7
    task: Any = registry.load(registry.component(Kind.PRETEXT, config.pretext.component))
    built = task(task.Settings.model_validate(config.pretext.settings), encoder_dim=8)
    assert list(built.tasks) == ["evil:distance", "distance"]


# Plugins of one name


def test_a_plugin_cannot_be_called_esmgn(host: PluginHost) -> None:
    evil(host, name="esmgn", registry=PRESET)
    problems = {plugin.name: plugin.problem for plugin in discover().plugins}
    assert problems["esmgn"] == "the name 'esmgn' is reserved for esmgn:NAME"
    assert discover().find(Kind.SEQ, "esmgn:esm2_8m").spec.name == "esm2"


def test_a_plugin_of_esmgn_stays_in_use(host: PluginHost) -> None:
    host.install("gearnet", host.component(Kind.STRUCT, "fake", Component), package="other-gearnet")
    plugins = {plugin.distribution: plugin for plugin in discover().plugins if plugin.name == "gearnet"}
    assert plugins["esmgn"].problem == ""
    assert plugins["other-gearnet"].problem == (
        "plugin 'gearnet' of esmgn has the same name: the author has to rename this one"
    )
    assert "fake" not in discover().names(Kind.STRUCT)
    assert (
        "plugin 'gearnet' (other-gearnet 1.0) is not in use: plugin 'gearnet' of esmgn"
        in discover().warnings[0]
    )


def test_neither_of_two_strangers_with_one_name_is_used_until_a_package_is_off(
    bare_host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("esmgn-egnn", "other-egnn"):
        bare_host.install("egnn", package=package)
    assert [plugin.problem for plugin in discover().plugins] == [
        f"esmgn-egnn and other-egnn both have a plugin 'egnn': switch one off, such as ESMGN_DISABLE={other}"
        for other in ("other-egnn", "esmgn-egnn")
    ]
    discover.cache_clear()
    monkeypatch.setenv("ESMGN_DISABLE", "other-egnn")
    assert [plugin.problem for plugin in discover().plugins] == ["", "switched off (ESMGN_DISABLE)"]


def test_the_package_esmgn_can_be_switched_off_as_a_whole(
    host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_DISABLE", "esmgn")
    host.install("egnn", host.component(Kind.STRUCT, "egnn", Component))
    registry = discover()
    assert [plugin.name for plugin in registry.plugins if not plugin.disabled] == ["egnn"]


# What is a name


@pytest.mark.parametrize("name", ["EGNN", "e-gnn", "1gnn", "egnn:x", "", "é"])
def test_names_are_small_letters_digits_and_underscores(bare_host: PluginHost, name: str) -> None:
    bare_host.install("egnn", ComponentSpec(Kind.STRUCT, name, "m:C", "A test"))
    bare_host.install(name or "-", package="badly-named")
    problems = {plugin.distribution: plugin.problem for plugin in discover().plugins}
    assert f"structure encoder: the name '{name}' is not allowed" in problems["esmgn-egnn"]
    assert f"plugin: the name '{name or '-'}' is not allowed" in problems["badly-named"]


def test_names_in_registry_files_too(bare_host: PluginHost) -> None:
    evil(bare_host, registry='[struct."My-Net"]\ncomponent = "egnn"\nsummary = "s"\n')
    assert "[struct.My-Net]: the name 'My-Net' is not allowed" in discover().plugins[0].problem
