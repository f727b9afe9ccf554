"""Edit and validate files ``registry.toml``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Array, Table

from esmgn_core.errors import EsmgnError, SettingsError, UnknownComponentError, check_choice, did_you_mean
from esmgn_core.host.configure import check_tables, configure
from esmgn_core.host.presets import (
    DEFAULT,
    DEFAULT_KINDS,
    DISABLED,
    SCHEMA,
    Catalogue,
    Preset,
    Recipe,
    read_registry,
)
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import write_atomically
from esmgn_core.settings import settings_class, validated
from esmgn_core.spec import Kind
from esmgn_core.text import read_text


def add_preset(
    file: Path, preset: Preset, registry: Registry, *, default: bool = False, replace: bool = False
) -> None:
    """Add a preset to a registry file; comments and other entries stay.

    Args:
        file: the registry file; it is made if it does not exist.
        preset: the preset.
        registry: all components.
        default: also make it the default of its kind.
        replace: replace an entry of this name in the file.

    Raises:
        EsmgnError: the file has such an entry, the component is unknown, or a setting is wrong.
    """
    check_preset(preset, registry)
    document = _document(file)
    section = document.setdefault(preset.kind.value, tomlkit.table(is_super_table=True))
    if preset.name in section and not replace:
        raise SettingsError(f"{file} has [{preset.kind}.{preset.name}] already", "replace it: --replace")
    entry = tomlkit.table()
    entry.update({"component": preset.component, "summary": preset.summary})
    if preset.settings:
        entry["settings"] = _inline(preset.settings)
    section[preset.name] = entry
    if default:
        document.setdefault(DEFAULT, tomlkit.table())[preset.kind.value] = preset.name
    _write(file, document)


def set_default(file: Path, key: str, name: str, registry: Registry) -> None:
    """Make a component or preset the default of a kind; comments and other entries stay.

    Raises:
        EsmgnError: the component is unknown, or the kind has no default.
    """
    check_choice("kind", key, DEFAULT_KINDS, "NAME")
    registry.find(DEFAULT_KINDS[key], name)
    document = _document(file)
    document.setdefault(DEFAULT, tomlkit.table())[key] = name
    _write(file, document)


def disable(file: Path, plugin: str, registry: Registry) -> None:
    """Disable a plugin or package; comments and other entries stay.

    Raises:
        UnknownComponentError: no plugin or package has this name.
    """
    _check_plugin(plugin, registry)
    document = _document(file)
    names = document.setdefault(DISABLED, tomlkit.array())
    if plugin not in names:
        names.append(plugin)
    _write(file, document)


def remove_entry(file: Path, section: str, name: str) -> None:
    """Remove an entry from a registry file, also as a default; comments and other entries stay.

    Raises:
        SettingsError: the file has no such entry.
    """
    document = _document(file)
    entries = document.get(section)
    if not isinstance(entries, Table | Array) or name not in entries:
        raise SettingsError(f"{file} has no entry {section}.{name}", "see: esmgn registry show")
    if isinstance(entries, Array):
        entries.remove(name)
    else:
        del entries[name]
    if not entries:
        del document[section]
    defaults = document.get(DEFAULT, {})
    for key in [key for key, value in defaults.items() if value == name and key.startswith(section)]:
        del defaults[key]
    _write(file, document)


def problems_of(layer: Catalogue, registry: Registry) -> Iterator[str]:
    """What is wrong with the entries of a registry file, one text for each wrong entry."""
    for where, check in _checks(layer, registry):
        try:
            check()
        except EsmgnError as error:
            yield f"{where} {error}"


def _checks(layer: Catalogue, registry: Registry) -> Iterator[tuple[str, Callable[[], object]]]:
    """Where an entry is, and a call that raises an error if it is wrong."""
    for (kind, name), preset in layer.presets.items():
        yield f"[{kind}.{name}]", partial(check_preset, preset, registry)
    for name, recipe in layer.recipes.items():
        yield f"[recipe.{name}]", partial(_compose, recipe, registry)
    for name, layout in layer.layouts.items():
        for part, tables in layout.run.items():
            for table in tables if isinstance(tables, list) else [tables]:
                named = table["name"] if isinstance(table, Mapping) else table
                yield f"[layout.{name}]", partial(registry.find, Kind(part), named)
    for name, file in layer.weights.items():
        yield f"[weights.{name}]", partial(_check_layout, file.layout, layer, registry)
    for key, named in layer.defaults.items():
        yield f"[{DEFAULT}]", partial(registry.find, DEFAULT_KINDS[key], named)
    for name in layer.disabled:
        yield "disabled:", partial(_check_plugin, name, registry)


def _check_layout(name: str, layer: Catalogue, registry: Registry) -> None:
    if name not in layer.layouts and registry.entry("layouts", name) is None:
        raise SettingsError(f"unknown layout '{name}'", *did_you_mean(name, registry.catalogue.layouts))


def _check_plugin(name: str, registry: Registry) -> None:
    known = [text for plugin in registry.plugins for text in (plugin.name, plugin.distribution)]
    if name not in known:
        raise UnknownComponentError(
            f"no plugin or package is called '{name}'", *did_you_mean(name, known), "see: esmgn plugins"
        )


def _compose(recipe: Recipe, registry: Registry) -> None:
    configure(registry, [check_tables(recipe.run, origin=recipe.origin)])


def check_preset(preset: Preset, registry: Registry) -> None:
    """Refuse a preset of an unknown component, or with settings that it does not have.

    Raises:
        EsmgnError: naming the component or the setting.
    """
    if preset.name in [spec.name for spec, _ in registry.components(preset.kind)]:
        raise SettingsError(
            f"'{preset.name}' is the name of a {preset.kind.long_name}", "give the preset another name"
        )
    spec = registry.component(preset.kind, preset.component, where=f"[{preset.kind}.{preset.name}]")
    if preset.kind is Kind.FORMAT:
        raise SettingsError("structure formats have no settings, and so no presets")
    model = settings_class(spec, registry.load(spec))
    validated(
        model, dict(preset.settings), what=f"{preset.kind} '{preset.name}'", see=f"esmgn show {spec.name}"
    )


def _document(file: Path) -> tomlkit.TOMLDocument:
    if not file.exists():
        document = tomlkit.document()
        document["schema"] = SCHEMA
        return document
    read_registry(file)  # a damaged file is not edited
    return tomlkit.parse(read_text(file))


def _inline(settings: Mapping[str, Any]) -> tomlkit.items.InlineTable:
    table = tomlkit.inline_table()
    table.update(settings)
    return table


def _write(file: Path, document: tomlkit.TOMLDocument) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, tomlkit.dumps(document))
