"""From names, files and flags to the complete configuration of a run.

Precedence, low to high: component defaults, preset, recipe, run file, flags. A layer that names
another component drops what lower layers set for the former one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esmgn_core.errors import PluginError, SettingsError, did_you_mean
from esmgn_core.registry import Registry
from esmgn_core.settings import ComponentSettings, RunConfig, validated
from esmgn_core.spec import ComponentSpec, Kind

Tables = dict[str, dict[str, Any]]

DEFAULTS: Mapping[Kind, str] = {
    Kind.SEQ: "esm2_650m",
    Kind.STRUCT: "gearnet",
    Kind.FUSE: "serial",
    Kind.GRAPH: "relational",
    Kind.PRETEXT: "residue_type",
    Kind.DATA: "sample",
}
"""What a run uses for a kind that nobody names."""


def read_run_file(path: Path) -> Tables:
    """The tables of a run file.

    Raises:
        SettingsError: the file is missing, is not TOML, or holds something else than tables.
    """
    if not path.is_file():
        raise SettingsError(f"run file not found: {path}", "a run is named by flags or by a .toml file")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read run file {path}: {error}") from error
    return check_tables(tables, origin=str(path))


def check_tables(tables: Mapping[str, Any], *, origin: str) -> Tables:
    """Tables with known names, or a SettingsError that says which is wrong and where."""
    known = list(RunConfig.model_fields)
    for name, table in tables.items():
        if name not in known:
            hints = (*did_you_mean(name, known), f"tables: {', '.join(known)}")
            raise SettingsError(f"unknown table [{name}] ({origin})", *hints)
        if not isinstance(table, Mapping):
            raise SettingsError(f"'{name}' must be a table, got {table!r} ({origin})")
    return {name: dict(table) for name, table in tables.items()}


def parse_assignments(assignments: Sequence[str]) -> Tables:
    """Tables from ``TABLE.KEY=VALUE`` texts; values are TOML, anything else is taken as text.

    >>> parse_assignments(["train.max_steps=2", "seq.weights=random"])
    {'train': {'max_steps': 2}, 'seq': {'weights': 'random'}}

    Raises:
        SettingsError: a text of another form, or an unknown table.
    """
    tables: dict[str, Any] = {}
    for text in assignments:
        path, separator, value = text.partition("=")
        keys = path.strip().split(".")
        if not separator or len(keys) < 2 or not all(keys):
            raise SettingsError(f"cannot read --set '{text}'", "expected TABLE.KEY=VALUE, such as train.epochs=5")
        table = tables
        for key in keys[:-1]:
            table = table.setdefault(key, {})
        table[keys[-1]] = _toml_value(value.strip())
    return check_tables(tables, origin="--set")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def data_tables(registry: Registry, value: str) -> Tables:
    """The ``[data]`` table that ``--data`` stands for: a dataset's name, else a path to structures.

    Raises:
        SettingsError: neither a name nor an existing path.
    """
    if value in registry.names(Kind.DATA):
        return {"data": {"name": value}}
    path = Path(value).expanduser()
    if path.exists():
        return {"data": {"name": "folder", "path": [str(path.resolve())]}}
    names = registry.names(Kind.DATA)
    raise SettingsError(
        f"no such dataset or path: '{value}' (--data)",
        *did_you_mean(value, names),
        f"datasets: {', '.join(names)}; or a folder or file of structures",
        "see: esmgn list data",
    )


def stack(layers: Sequence[Tables]) -> Tables:
    """Put layers of tables on one another, the later over the earlier."""
    result: Tables = {}
    for layer in layers:
        for name, table in layer.items():
            below = result.get(name, {})
            if "name" in table and table["name"] != below.get("name"):
                below = {}
            result[name] = {**below, **table}
    return result


def configure(registry: Registry, layers: Sequence[Tables]) -> RunConfig:
    """The configuration of a run: defaults filled in, presets expanded, names resolved.

    The settings of components are checked when the components are built, in
    :mod:`esmgn_core.compose`; those of the engine are checked here.

    Raises:
        UnknownComponentError: a name that nobody registered.
        SettingsError: a wrong engine setting.
    """
    tables = stack(layers)
    for kind, default in DEFAULTS.items():
        tables[kind.value] = _resolved(registry, kind, {"name": default, **tables.get(kind.value, {})})
    return validated(RunConfig, tables, what="the run", see="esmgn show train")


def _resolved(registry: Registry, kind: Kind, table: dict[str, Any]) -> dict[str, Any]:
    if table.get("component"):
        registry.component(kind, table["component"])
        return table
    named = registry.find(kind, table["name"])
    return {**named.settings, **table, "component": named.spec.name}


def component_settings(registry: Registry, kind: Kind, config: RunConfig) -> tuple[ComponentSpec, type, Any]:
    """Spec, class and checked settings of the component a run uses for ``kind``.

    Raises:
        PluginError: the class cannot be loaded or has no ``Settings``.
        SettingsError: a setting is unknown, of the wrong type or out of bounds.
    """
    table = getattr(config, kind.value)
    spec = registry.component(kind, table.component or table.name)
    component = registry.load(spec)
    settings = validated(
        settings_class(spec, component),
        table.settings,
        what=f"{kind} '{table.name}'",
        see=f"esmgn show {spec.name}",
    )
    return spec, component, settings


def settings_class(spec: ComponentSpec, component: type) -> type[ComponentSettings]:
    """The nested ``Settings`` of a component.

    Raises:
        PluginError: it has none, or one that is no :class:`ComponentSettings`.
    """
    settings = getattr(component, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ComponentSettings)):
        raise PluginError(
            f"{spec.kind.long_name} '{spec.name}' ({spec.target}) has no nested class Settings(ComponentSettings)"
        )
    return settings
