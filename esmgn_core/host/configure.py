"""Resolve names, files and flags into the complete configuration of a run.

Precedence, low to high: component defaults, preset, recipe, run file, flags. A layer that names another
component than the layers below drops their settings for that kind.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any

from esmgn_core.errors import SettingsError, did_you_mean, shown
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.registry import Registry
from esmgn_core.machine.manifest import STORE_MANIFEST
from esmgn_core.machine.parse import parse_toml
from esmgn_core.settings import (
    PROVIDED_BY,
    CacheTable,
    ComponentSettings,
    InputsTable,
    LengthTable,
    OptimTable,
    RunConfig,
    TrainTable,
    settings_class,
    validated,
)
from esmgn_core.spec import PARTS, ComponentSpec, Kind
from esmgn_core.text import is_utf8, read_text

Tables = dict[str, dict[str, Any]]

REFERENCE = "reference"
"""Key outside of all tables; true reproduces the original ESM-GearNet in every component."""

TASKS = (Kind.PRETEXT, Kind.DOWNSTREAM)
"""A run has a component of exactly one of these kinds."""

ENGINE_TABLES: Mapping[str, type[ComponentSettings]] = {
    "cache": CacheTable,
    "inputs": InputsTable,
    "length": LengthTable,
    "optim": OptimTable,
    "train": TrainTable,
}
"""Tables of a run file that belong to no component."""

_FOLDER, _STORE = "folder", "store"


def read_run_file(path: Path) -> Tables:
    """Read the tables of a run file.

    Raises:
        SettingsError: the file is missing, is not TOML, or has entries that are not tables.
    """
    if path.is_dir():
        raise SettingsError(
            f"{path} is a folder, expected a run file",
            f"repeat a run: esmgn run {path / 'config.toml'}",
            f"go on with it: esmgn run --resume {path}",
        )
    if not path.exists():
        raise SettingsError(f"run file not found: {path}", "see: esmgn run --help")
    try:
        tables = parse_toml(read_text(path))
    except (OSError, ValueError) as error:  # TOMLDecodeError is a ValueError
        raise SettingsError(f"cannot read run file {path}: {error}") from error
    return check_tables(tables, origin=str(path))


def check_tables(tables: Mapping[str, Any], *, origin: str) -> Tables:
    """Validate the names of tables, and expand ``seq = "NAME"`` to ``seq = { name = "NAME" }``.

    Raises:
        SettingsError: a table is wrong; the message names it and ``origin``.
    """
    known = [*PARTS, *ENGINE_TABLES]
    checked: Tables = {}
    for name, table in tables.items():
        if name == REFERENCE:
            if not isinstance(table, bool):
                raise SettingsError(f"{REFERENCE} must be true or false, got {shown(table)} ({origin})")
            checked[name] = table  # type: ignore[assignment]  # the one setting outside of all tables
            continue
        if name == Kind.TRACKER:
            checked[name] = _tracker_tables(table, origin)
            continue
        if name == PROVIDED_BY:
            continue
        if name not in known:
            hints = (*did_you_mean(name, [*known, REFERENCE]), f"tables: {', '.join(known)}")
            raise SettingsError(f"unknown table [{name}] ({origin})", *hints)
        if isinstance(table, str) and name not in ENGINE_TABLES:
            checked[name] = {"name": table}
        elif isinstance(table, Mapping):
            checked[name] = _checked_names(name, dict(table), origin)
        else:
            raise SettingsError(f"[{name}] must be a table, got {shown(table)} ({origin})")
    return checked


def _tracker_tables(tables: Any, origin: str) -> dict[str, Any]:
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise SettingsError(
            f"[{Kind.TRACKER}] must hold a table for each tracker, such as [tracker.wandb] ({origin})",
            "choose trackers: train.trackers; see: esmgn list tracker",
        )
    return dict(tables)


def _checked_names(kind: str, table: dict[str, Any], origin: str) -> dict[str, Any]:
    if kind in ENGINE_TABLES:
        return table
    for key in ("name", "component"):
        if not isinstance(table.get(key, ""), str):
            raise SettingsError(f"{kind}.{key} must be text, got {shown(table[key])} ({origin})")
    if "component" in table and "name" not in table:
        raise SettingsError(
            f"{kind}.component without {kind}.name ({origin})",
            f"choose by name: {kind}.name = {shown(table['component'])}",
        )
    return table


def parse_assignments(assignments: Sequence[str]) -> Tables:
    """Parse ``TABLE.KEY=VALUE`` texts into tables; values are TOML, and a bare word is text.

    >>> parse_assignments(["train.max_steps=2", "seq.weights=random", "optim.betas=[0.9, 0.98]"])
    {'train': {'max_steps': 2}, 'seq': {'weights': 'random'}, 'optim': {'betas': [0.9, 0.98]}}

    Raises:
        SettingsError: a text has another form or names an unknown table.
    """
    tables: Tables = {}
    for text in assignments:
        path, separator, value = text.partition("=")
        keys = path.strip().split(".")
        if separator and keys == [REFERENCE]:
            tables[REFERENCE] = _toml_value(value.strip(), text)
            continue
        if not separator or len(keys) < 2 or not all(keys):
            raise SettingsError(
                f"cannot read --set '{text}'", "expected TABLE.KEY=VALUE, such as train.epochs=5"
            )
        nested: Any = _toml_value(value.strip(), text)
        for key in reversed(keys[1:]):
            nested = {key: nested}
        tables[keys[0]] = merge_tables(tables.get(keys[0], {}), nested)
    return check_tables(tables, origin="--set")


def _toml_value(value: str, text: str) -> Any:
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        if value.startswith(("[", "{", '"', "'")):
            raise SettingsError(
                f"cannot read --set '{text}': {error}",
                """quote texts in lists, and the argument for the shell: --set 'data.path=["a", "b"]'""",
            ) from error
        return value
    return value if isinstance(parsed, date | time) else parsed


def data_tables(registry: Registry, value: str) -> Tables:
    """The ``[data]`` table for a value of ``--data``: name of a dataset, store, or path to structures.

    Raises:
        SettingsError: the value is neither a name nor an existing path.
    """
    names = registry.names(Kind.DATA)
    if value in names or (SEPARATOR in value and not Path(value).exists()):
        return {"data": {"name": value}}
    path = Path(value).expanduser()
    if path.exists() and not is_utf8(path):
        raise SettingsError(
            f"the path {path} is not UTF-8 and cannot be written to a run file (--data)",
            "rename it, or give a link to it: ln -s",
        )
    if (path / STORE_MANIFEST).is_file():
        return {"data": {"name": _STORE, "path": str(path.absolute())}}
    if path.exists():
        return {"data": {"name": _FOLDER, "path": [str(path.absolute())]}}
    raise SettingsError(
        f"no such dataset or path: '{value}' (--data)",
        *did_you_mean(value, names),
        f"available: {', '.join(names)}, or a store, a folder or a file of structures",
        "see: esmgn list data",
    )


def merge_tables(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables recursively; values of ``above`` win.

    >>> merge_tables({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}})
    {'a': 1, 'b': {'c': 4, 'd': 3}}
    """
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge_tables(result[key], value) if both else value
    return result


@dataclass(slots=True)
class _Stack:
    """Merged layers of settings, with the origins of names and settings for messages.

    Attributes:
        tables: the merged tables.
        named_in: origin of the component's name in each table.
        set_in: origins of the settings in each table.
        above_fuser: origins of the tables in the layer that names the fuser and those above it.
        reference: True after a layer with ``reference = true``.
        set_above: settings from that layer and those above it.
    """

    tables: dict[str, Any]
    named_in: dict[str, str] = field(default_factory=dict)
    set_in: dict[str, list[str]] = field(default_factory=dict)
    above_fuser: dict[str, str] = field(default_factory=dict)
    reference: bool = False
    set_above: dict[str, Any] = field(default_factory=dict)

    def add(self, layer: Tables, origin: str) -> None:
        layer = dict(layer)
        self._choose_behavior(layer.pop(REFERENCE, None), origin)
        if self.reference:
            self.set_above = merge_tables(self.set_above, layer)
        self._choose_task(layer, origin)
        if "name" in layer.get(Kind.FUSE, {}):
            self.above_fuser = {}
        self.above_fuser |= dict.fromkeys(layer, origin)
        for name, table in layer.items():
            below = self.tables.get(name, {})
            # A table with 'component' comes from a run folder and is complete.
            if "component" in table or table.get("name", below.get("name")) != below.get("name"):
                below, self.set_in[name] = {}, []
            if "name" in table:
                self.named_in[name] = origin
            if origin and table.keys() - {"name"}:
                self.set_in.setdefault(name, []).append(origin)
            self.tables[name] = merge_tables(below, table)

    def _choose_behavior(self, reference: Any, origin: str) -> None:
        """Place the original's settings below those of the layer with ``reference = true``."""
        if reference is False and self.reference:
            raise SettingsError(
                f"reference = false cannot undo reference = true of a lower layer ({origin})",
                "the run file of a run records all settings: start from a new run file or from flags instead",
            )
        if reference:
            self.reference, self.set_above = True, {}

    def _choose_task(self, layer: Tables, origin: str) -> None:
        """Drop a task of the other kind if this layer names a task."""
        named = [kind for kind in TASKS if "name" in layer.get(kind, {})]
        if len(named) > 1:
            raise SettingsError(
                f"[{TASKS[0]}] and [{TASKS[1]}] exclude each other: a run has one task ({origin})"
            )
        for kind in named:
            for other in TASKS:
                if other != kind:
                    self.tables.pop(other, None)
                    self.named_in.pop(other, None)
                    self.set_in.pop(other, None)

    def check_named(self) -> None:
        """Raise an error for settings of a kind of task that the run does not have."""
        for kind in TASKS:
            if "name" not in self.tables.get(kind, {"name": ""}):
                where = ", ".join(self.set_in.get(kind, []))
                raise SettingsError(
                    f"settings for a {kind.long_name} ({where}), but the run names none",
                    f"name one: --{kind} NAME; see: esmgn list {kind}",
                )

    def drop_unread(self, registry: Registry) -> None:
        """Drop the encoders that the fuser does not read.

        Raises:
            SettingsError: such an encoder is named or set beside or above the fuser.
        """
        table = self.tables[Kind.FUSE]
        where = self.named_in.get(Kind.FUSE, "")
        spec = registry.find(Kind.FUSE, table.get("component", table["name"]), where=where).spec
        for kind in (Kind.SEQ, Kind.STRUCT):
            if kind in spec.encoders:
                continue
            if kind in self.above_fuser:
                named = f" ({origin})" if (origin := self.above_fuser[kind]) else ""
                raise SettingsError(
                    f"the fuser '{spec.name}' does not read a {kind.long_name}{named}",
                    f"leave out --{kind} and the table [{kind}], or choose another fuser: esmgn list fuse",
                )
            self.tables.pop(kind, None)
            self.set_in.pop(kind, None)

    def expand(self, registry: Registry, kind: Kind) -> None:
        """Add the settings of the preset below those of the table, and the component's name."""
        table, where = self.tables[kind], self.named_in.get(kind, "")
        if "component" in table:
            registry.component(kind, table["component"], where=where)
            return
        named = registry.find(kind, table["name"], where=where)
        if named.preset:
            self.set_in.setdefault(kind, []).insert(0, f"preset in {named.preset.origin}")
        self.tables[kind] = {**merge_tables(named.settings, table), "component": named.spec.name}

    def suggest_graph(self, registry: Registry) -> None:
        """Use the graph builder that the structure encoder suggests, unless a layer names one."""
        if Kind.STRUCT not in self.tables or Kind.GRAPH in self.named_in:
            return
        if suggested := registry.component(Kind.STRUCT, self.tables[Kind.STRUCT]["component"]).graph:
            self.tables[Kind.GRAPH]["name"] = suggested

    def suggest_data(self, registry: Registry) -> None:
        """Use the dataset with the name of the downstream task, unless a layer names one."""
        task = self.tables.get(Kind.DOWNSTREAM, {}).get("name")
        if task in registry.names(Kind.DATA) and Kind.DATA not in self.named_in:
            self.tables[Kind.DATA]["name"] = task

    def written_in(self) -> dict[str, str]:
        return {name: f" ({', '.join(origins)})" for name, origins in self.set_in.items() if origins}


def configure(registry: Registry, layers: Sequence[Tables], origins: Sequence[str] = ()) -> RunConfig:
    """Build the configuration of a run: fill in defaults, expand presets, resolve names.

    This function validates the settings of the engine. :func:`component_settings` validates those of a
    component, because it has to load the component's class.

    Args:
        registry: all components.
        layers: tables, low to high.
        origins: file or flag of each layer, for messages.

    Raises:
        UnknownComponentError: a name is not registered.
        SettingsError: a setting of the engine is wrong.
    """
    stack = _Stack({kind.value: {"name": name} for kind, name in registry.defaults().items()})
    for layer, origin in zip(layers, origins or [""] * len(layers), strict=True):
        stack.add(layer, origin)
    stack.check_named()
    stack.suggest_data(registry)
    stack.drop_unread(registry)
    for kind in (kind for kind in PARTS if kind in stack.tables):
        if kind is Kind.GRAPH:
            stack.suggest_graph(registry)
        stack.expand(registry, kind)
    written_in = stack.written_in()
    for name, model in ENGINE_TABLES.items():
        what = name + written_in.get(name, "")
        values = stack.tables.get(name, {})
        if stack.reference:
            values = with_originals(model, values, stack.set_above.get(name, {}))
        stack.tables[name] = validated(model, values, what=what, see=f"esmgn show {name}")
    return RunConfig(
        **stack.tables,
        reference=stack.reference or None,
        set_above=stack.set_above,
        written_in=written_in,
    )


def with_originals(
    model: type[ComponentSettings], values: Mapping[str, Any], above: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge the original's settings above ``values`` and below ``above``."""
    own = {name: value for name, value in above.items() if name not in ("name", "component")}
    return merge_tables(merge_tables(values, model.original(values)), own)


def component_settings(registry: Registry, kind: Kind, config: RunConfig) -> tuple[ComponentSpec, type, Any]:
    """Spec, class and validated settings of a run's component of one kind.

    Raises:
        PluginError: the class cannot be loaded or has no ``Settings``.
        SettingsError: a setting is unknown, has the wrong type or is out of bounds.
    """
    table = getattr(config, kind.value)
    spec = registry.component(kind, table.component or table.name)
    component = registry.load(spec)
    model, values = settings_class(spec, component), table.settings
    if config.reference:
        values = with_originals(model, values, config.set_above.get(kind, {}))
    settings = validated(
        model,
        values,
        what=f"{kind} '{table.name}'{config.written_in.get(kind, '')}",
        see=f"esmgn show {spec.name}",
    )
    return spec, component, settings


def overridden(registry: Registry, config: RunConfig) -> list[str]:
    """A notice for each preset of a run with which the user's registry overrides another one."""
    presets = registry.catalogue.presets
    used = [presets.get((kind, getattr(config, kind).name)) for kind in config.kinds]
    return [
        f"{preset.kind} '{preset.name}' is the preset in {preset.origin}, which overrides {preset.overrides}"
        for preset in used
        if preset and preset.overrides
    ]
