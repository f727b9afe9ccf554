"""Errors about wrong names and settings name the file or flag."""

from __future__ import annotations

import pytest

from esmgn_core.errors import EsmgnError, PluginError, UnknownComponentError
from esmgn_core.host.configure import (
    Tables,
    component_settings,
    configure,
)
from esmgn_core.host.registry import Registry
from esmgn_core.spec import Kind

from ...conftest import PluginHost
from .conftest import message


def wrong(registry: Registry, layers: dict[str, Tables], kind: Kind = Kind.SEQ) -> str:
    """Message about layers that come from files and flags."""
    with pytest.raises(EsmgnError) as caught:
        component_settings(registry, kind, configure(registry, list(layers.values()), list(layers)))
    return message(caught)


def test_an_unknown_name_is_told_where_it_was_written(registry: Registry) -> None:
    text = wrong(registry, {"run.toml": {"seq": {"name": "smal"}}, "--set": {"seq": {"num_layers": 3}}})
    assert text.startswith(
        "unknown sequence encoder 'smal' (run.toml)\n  did you mean: small?\n  available: "
    )


def test_an_unknown_name_without_a_file_is_that_of_the_flag(registry: Registry) -> None:
    with pytest.raises(UnknownComponentError, match=r"^unknown fuser 'serail' \(--fuse\)"):
        configure(registry, [{"fuse": {"name": "serail"}}])


def test_a_run_file_whose_plugin_is_gone(registry: Registry) -> None:
    text = wrong(registry, {"config.toml": {"seq": {"name": "small", "component": "lmm"}}})
    assert text.startswith("unknown sequence encoder 'lmm' (config.toml)")


def test_wrong_settings_are_told_where_they_were_written(registry: Registry) -> None:
    text = wrong(
        registry, {"run.toml": {"seq": {"name": "lm", "num_layer": 3}}, "--seq": {"seq": {"name": "lm"}}}
    )
    assert text == (
        "invalid settings for seq 'lm' (run.toml)\n"
        "  num_layer  unknown setting, did you mean: num_layers?\n"
        "  see: esmgn show lm"
    )


def test_all_files_and_flags_that_set_something_are_told(registry: Registry) -> None:
    layers: dict[str, Tables] = {
        "recipe 'x'": {"seq": {"name": "lm", "weights": "w"}},
        "--set": {"seq": {"num_layers": 0}},
    }
    assert wrong(registry, layers).startswith("invalid settings for seq 'lm' (recipe 'x', --set)\n")


def test_a_wrong_preset_is_told_with_its_file(registry: Registry, bare_host: PluginHost) -> None:
    file = bare_host.folder / "config" / "esmgn" / "registry.toml"
    assert wrong(registry, {"--seq": {"seq": {"name": "wrong"}}}) == (
        f"invalid settings for seq 'wrong' (preset in {file})\n"
        "  layers  unknown setting, did you mean: num_layers?\n"
        "  see: esmgn show lm"
    )


def test_wrong_engine_settings_are_told_where_they_were_written(registry: Registry) -> None:
    assert wrong(registry, {"run.toml": {"train": {"epoch": 3}}, "--set": {"optim": {"lr": 0.1}}}) == (
        "invalid settings for train (run.toml)\n"
        "  epoch  unknown setting, did you mean: epochs?\n"
        "  see: esmgn show train"
    )


def test_a_component_without_settings_breaks_the_contract(registry: Registry) -> None:
    text = wrong(registry, {"--fuse": {"fuse": {"name": "bare"}}}, Kind.FUSE)
    assert text == "fuser 'bare' (target_fuse_bare:Component) has no nested class Settings(ComponentSettings)"


def test_a_component_must_not_use_the_run_files_own_names(registry: Registry) -> None:
    with pytest.raises(PluginError, match="has a setting 'name', a name reserved for the run file"):
        component_settings(registry, Kind.FUSE, configure(registry, [{"fuse": {"name": "taken"}}]))
