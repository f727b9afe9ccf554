"""What is installed, as records for lists and JSON. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from esmgn_core.errors import UnknownComponentError, did_you_mean
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
        yield from (recipe_record(recipe) for recipe in registry.catalogue.recipes.values())
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
        "component": preset.component,
        "origin": preset.origin,
        "overrides": preset.overrides,
    }
    for spec, plugin in registry.components(preset.kind):
        if spec.name == preset.component:
            own = component_record(spec, plugin)
            record |= {key: own[key] for key in own if key not in record and key != "target"}
    settings = dict(preset.settings)
    if weights := settings.pop("checkpoint", None):
        record["weights"] = dict(weights)
    return {**record, "settings": settings}


def recipe_record(recipe: Recipe) -> Record:
    """A recipe."""
    return {
        "type": RECIPE,
        "kind": RECIPE,
        "name": recipe.name,
        "summary": recipe.summary,
        "origin": recipe.origin,
        "overrides": recipe.overrides,
        "run": dict(recipe.run),
    }


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
    """True if nothing has to be installed for it."""
    return not record.get("needs")


def is_third_party(record: Record) -> bool:
    """True if it belongs to another package than esmgn."""
    return bool(record.get("package", PACKAGE) != PACKAGE)
