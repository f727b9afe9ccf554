"""Names that are data: presets and recipes from the layers of ``registry.toml``.

Later layers replace whole entries: shipped, then each plugin's own file, then the user's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esmgn_core.errors import SettingsError, did_you_mean
from esmgn_core.spec import Kind

SCHEMA = 1
_RECIPE = "recipe"
_PRESET_KEYS = frozenset({"component", "summary", "settings", "checkpoint"})
_RECIPE_KEYS = frozenset({"summary", "run"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A component with settings and, where weights are published, where they are."""

    kind: Kind
    name: str
    component: str
    summary: str
    settings: Mapping[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named full run: tables as in a run file."""

    name: str
    summary: str
    run: Mapping[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All presets and recipes after the layers were put on one another."""

    presets: Mapping[tuple[Kind, str], Preset] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()


def shipped_registry() -> Path:
    """The catalogue that comes with esmgn: inside the installed package, or at the top of a checkout."""
    installed = Path(__file__).with_name("registry.toml")
    return installed if installed.exists() else Path(__file__).parents[1] / "registry.toml"


def user_registry() -> Path:
    """The user's own catalogue; it need not exist unless ``ESMGN_REGISTRY`` names it."""
    if named := os.environ.get("ESMGN_REGISTRY"):
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "esmgn" / "registry.toml"


def read_catalogue(plugin_files: Iterable[Path] = ()) -> Catalogue:
    """Read and stack the layers.

    Args:
        plugin_files: ``registry.toml`` of plugins, in order of discovery.

    Raises:
        SettingsError: a file that is not TOML or has an entry of the wrong shape, with file and key.
    """
    user = user_registry()
    if "ESMGN_REGISTRY" in os.environ and not user.exists():
        raise SettingsError(f"registry file not found: {user}", "ESMGN_REGISTRY names it; unset it or make it")
    files = [shipped_registry(), *plugin_files, *([user] if user.exists() else [])]
    presets: dict[tuple[Kind, str], Preset] = {}
    recipes: dict[str, Recipe] = {}
    for file in files:
        layer = _read_file(file)
        presets |= layer.presets
        recipes |= layer.recipes
    return Catalogue(presets, recipes, disabled_plugins(user))


def disabled_plugins(user: Path) -> frozenset[str]:
    """Plugins switched off by ``ESMGN_DISABLE`` or by ``disabled`` in the user's registry."""
    names = {name.strip() for name in os.environ.get("ESMGN_DISABLE", "").split(",")} - {""}
    if user.exists():
        names |= set(_parse(user).get("disabled", []))
    return frozenset(names)


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read registry {file}: {error}") from error


def _read_file(file: Path) -> Catalogue:
    tables = _parse(file)
    if tables.pop("schema", None) != SCHEMA:
        raise SettingsError(f"registry {file}: expected 'schema = {SCHEMA}' at the top")
    tables.pop("disabled", None)
    presets: dict[tuple[Kind, str], Preset] = {}
    recipes: dict[str, Recipe] = {}
    kinds = [*Kind]
    for section, entries in tables.items():
        if section != _RECIPE and section not in kinds:
            hints = did_you_mean(section, [*kinds, _RECIPE])
            raise SettingsError(f"registry {file}: unknown section [{section}]", *hints)
        for name, entry in _table(entries, file, section).items():
            where = f"{section}.{name}"
            values = _table(entry, file, where)
            if section == _RECIPE:
                recipes[name] = _recipe(name, values, file, where)
            else:
                presets[Kind(section), name] = _preset(Kind(section), name, values, file, where)
    return Catalogue(presets, recipes)


def _table(value: object, file: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"registry {file}: [{where}] must be a table, got {value!r}")
    return value


def _preset(kind: Kind, name: str, values: dict[str, Any], file: Path, where: str) -> Preset:
    _check_keys(values, _PRESET_KEYS, file, where)
    if not isinstance(values.get("component"), str):
        raise SettingsError(f"registry {file}: [{where}] needs component = \"NAME\"")
    settings = dict(_table(values.get("settings", {}), file, f"{where}.settings"))
    if "checkpoint" in values:
        settings["checkpoint"] = _table(values["checkpoint"], file, f"{where}.checkpoint")
    return Preset(kind, name, values["component"], values.get("summary", ""), settings, str(file))


def _recipe(name: str, values: dict[str, Any], file: Path, where: str) -> Recipe:
    _check_keys(values, _RECIPE_KEYS, file, where)
    return Recipe(name, values.get("summary", ""), _table(values.get("run"), file, f"{where}.run"), str(file))


def _check_keys(values: dict[str, Any], known: frozenset[str], file: Path, where: str) -> None:
    for key in values.keys() - known:
        raise SettingsError(f"registry {file}: unknown key '{key}' in [{where}]", *did_you_mean(key, known))
