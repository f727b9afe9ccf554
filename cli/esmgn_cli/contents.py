"""What is installed, as records for lists and JSON. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esmgn_core.errors import EsmgnError, UnknownComponentError, did_you_mean
from esmgn_core.host.hooks import PROJECT, HookSpecs
from esmgn_core.host.names import PACKAGE
from esmgn_core.host.plugins import Plugin
from esmgn_core.host.presets import RECIPE, Preset, Recipe
from esmgn_core.host.registry import Registry
from esmgn_core.spec import ComponentSpec, Kind

Record = dict[str, Any]
KINDS = (*Kind, RECIPE)
_DECLARATIONS = ("esmgn_components", "esmgn_commands")
_OBSERVERS = [name for name in vars(HookSpecs) if name.startswith(PROJECT) and name not in _DECLARATIONS]


def check_kind(kind: str) -> None:
    """Refuse a word that is not a kind of entry.

    Raises:
        UnknownComponentError: it is not one.
    """
    if kind not in KINDS:
        raise UnknownComponentError(
            f"unknown kind '{kind}'", *did_you_mean(kind, KINDS), f"available: {', '.join(KINDS)}"
        )


def entries(registry: Registry, kind: str) -> Iterator[Record]:
    """Components, presets or recipes of one kind."""
    if kind == RECIPE:
        yield from (recipe_record(registry, recipe) for recipe in registry.catalogue.recipes.values())
        return
    yield from (component_record(spec, plugin) for spec, plugin in registry.components(Kind(kind)))
    yield from (preset_record(registry, preset) for preset in registry.presets(Kind(kind)))


def component_record(spec: ComponentSpec, plugin: Plugin) -> Record:
    """A component; without keys that do not apply to its kind."""
    record: Record = {
        "type": "component",
        "kind": spec.kind.value,
        "name": spec.name,
        "summary": spec.summary,
        "plugin": plugin.name,
        "package": plugin.distribution,
        "version": plugin.version,
        "license": plugin.license_of(spec),
        "citation": spec.citation,
        "reads": list(spec.reads),
        "needs": spec.install_command,
        "target": spec.target,
    }
    if spec.kind is Kind.STRUCT:
        record["graph"] = spec.graph
    if spec.kind is Kind.FUSE:
        record["encoders"] = [kind.value for kind in spec.encoders]
    return record


def preset_record(registry: Registry, preset: Preset) -> Record:
    """A preset, with the facts about its component; ``weights`` only if it has published ones."""
    record: Record = {
        "type": "preset",
        "kind": preset.kind.value,
        "name": preset.name,
        "summary": preset.summary,
        **_provider(registry, preset),
        "component": preset.component,
        "missing": _missing(registry, preset.kind, preset.component),
    }
    for spec, plugin in registry.components(preset.kind):
        if spec.name == preset.component:
            own = component_record(spec, plugin)
            identity = ("plugin", "package", "version", "license", "citation")
            record |= {f"component_{key}": own[key] for key in identity}
            record |= {key: own[key] for key in ("reads", "needs", "graph", "encoders") if key in own}
    settings = dict(preset.settings)
    if weights := settings.pop("checkpoint", None):
        record["weights"] = dict(weights)
    return {**record, "settings": settings}


def recipe_record(registry: Registry, recipe: Recipe) -> Record:
    """A recipe."""
    named = [(kind, recipe.run[kind]) for kind in Kind if kind in recipe.run]
    parts = [(kind, part.get("name", "") if isinstance(part, Mapping) else part) for kind, part in named]
    texts = [_missing(registry, kind, name) for kind, name in parts if isinstance(name, str) and name]
    return {
        "type": RECIPE,
        "kind": RECIPE,
        "name": recipe.name,
        "summary": recipe.summary,
        **_provider(registry, recipe),
        "missing": next(filter(None, texts), ""),
        "run": dict(recipe.run),
    }


def _provider(registry: Registry, entry: Preset | Recipe) -> Record:
    """The plugin and package of an entry, empty for one of the user's file; and its file."""
    owner = registry.owners.get(entry.origin)
    versions = {plugin.distribution: plugin.version for plugin in registry.plugins}
    return {
        "plugin": owner.plugin if owner else "",
        "package": owner.package if owner else "",
        "version": versions.get(owner.package, "") if owner else "",
        "origin": entry.origin,
        "overrides": entry.overrides,
    }


def _missing(registry: Registry, kind: Kind, name: str) -> str:
    """Why this component or preset cannot be used; empty if it can."""
    try:
        spec = registry.find(kind, name).spec
    except EsmgnError as error:
        return str(error).partition("\n")[0]
    return f"needs {spec.install_command}" if spec.install_command else ""


def plugin_record(registry: Registry, plugin: Plugin) -> Record:
    """A plugin with everything it brings."""
    return {
        "name": plugin.name,
        "package": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "made_for": plugin.made_for,
        "state": "off" if plugin.disabled else "broken" if plugin.problem else "in use",
        "problem": plugin.problem,
        "notes": list(plugin.notes),
        "components": [f"{spec.kind}:{spec.name}" for spec in plugin.components],
        "presets": [f"{kind}:{name}" for kind, name in plugin.catalogue.presets],
        "recipes": list(plugin.catalogue.recipes),
        "commands": _has_hook(registry, plugin, "esmgn_commands"),
        "observers": [name for name in _OBSERVERS if _has_hook(registry, plugin, name)],
    }


def _has_hook(registry: Registry, plugin: Plugin, name: str) -> bool:
    implementations = getattr(registry.manager.hook, name).get_hookimpls()
    return any(hook.plugin_name == plugin.name for hook in implementations)


def is_usable(record: Record) -> bool:
    """True if nothing that it needs is missing."""
    return not record.get("needs") and not record.get("missing")


def is_third_party(record: Record) -> bool:
    """True if it belongs to another package than esmgn, or to the user's file."""
    return bool(record["package"] != PACKAGE)
