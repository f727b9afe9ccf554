"""Discovery of plugins, and the way from a name to a component's class.

Every plugin, shipped or not, is found through the entry-point group ``esmgn``. One that fails is
recorded with its reason; the others work on. ``ESMGN_STRICT=1`` raises instead, for plugin authors.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from esmgn_core.errors import PluginError, UnknownComponentError, did_you_mean
from esmgn_core.hooks import PROJECT, HookSpecs
from esmgn_core.presets import Catalogue, Preset, Recipe, disabled_plugins, read_catalogue, user_registry
from esmgn_core.spec import ComponentSpec, Kind

ENTRY_POINT_GROUP = "esmgn"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that was found, whether or not it could be loaded.

    ``problem`` is why it is not in use: ``"disabled"`` or the reason it is broken; empty if it works.
    """

    name: str
    module: str
    distribution: str
    version: str
    components: tuple[ComponentSpec, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """What a component or preset name stands for.

    ``settings`` are those of the preset; the component's defaults fill the rest.
    """

    spec: ComponentSpec
    settings: Mapping[str, Any]
    preset: Preset | None = None


class Registry:
    """All plugins, components, presets and recipes of this installation."""

    def __init__(self, manager: pluggy.PluginManager, plugins: Iterable[Plugin], catalogue: Catalogue) -> None:
        self.manager = manager
        self.plugins = tuple(plugins)
        self.catalogue = catalogue

    def components(self, kind: Kind) -> list[tuple[ComponentSpec, Plugin]]:
        """Components of one kind with the plugins they come from, by name."""
        found = [(spec, plugin) for plugin in self.plugins for spec in plugin.components if spec.kind == kind]
        return sorted(found, key=lambda pair: pair[0].name)

    def presets(self, kind: Kind) -> list[Preset]:
        """Presets of one kind, by name."""
        return sorted((p for p in self.catalogue.presets.values() if p.kind == kind), key=lambda p: p.name)

    def names(self, kind: Kind) -> list[str]:
        """Every name that may follow the kind's flag."""
        components = {spec.name for spec, _ in self.components(kind)}
        return sorted(components | {preset.name for preset in self.presets(kind)})

    def recipe(self, name: str) -> Recipe:
        """The recipe of this name.

        Raises:
            UnknownComponentError: there is none.
        """
        recipes = self.catalogue.recipes
        if name not in recipes:
            raise _unknown("recipe", name, sorted(recipes), "--recipe", "esmgn list recipe")
        return recipes[name]

    def find(self, kind: Kind, name: str) -> Named:
        """What ``name`` stands for: a preset, else a component under its defaults.

        Raises:
            UnknownComponentError: no preset and no component has this name, with the nearest one.
            PluginError: several plugins claim the component.
        """
        preset = self.catalogue.presets.get((kind, name))
        if preset is None:
            return Named(self.component(kind, name), {})
        try:
            return Named(self.component(kind, preset.component), preset.settings, preset)
        except UnknownComponentError:
            raise UnknownComponentError(
                f"preset '{name}' needs the {kind.long_name} '{preset.component}', which no plugin provides",
                f"the preset stands in {preset.origin}",
                "see: esmgn plugins",
            ) from None

    def component(self, kind: Kind, name: str) -> ComponentSpec:
        """The component of this name, whatever presets there are.

        Raises:
            UnknownComponentError: no plugin in use declares it.
            PluginError: several plugins claim it.
        """
        matches = [(spec, plugin) for spec, plugin in self.components(kind) if spec.name == name]
        if len(matches) > 1:
            owners = " and ".join(f"'{plugin.name}' ({plugin.distribution})" for _, plugin in matches)
            raise PluginError(
                f"{kind.long_name} '{name}' is claimed by two plugins: {owners}",
                f"switch one off: ESMGN_DISABLE={matches[-1][1].name}",
            )
        if not matches:
            raise _unknown(kind.long_name, name, self.names(kind), f"--{kind}", f"esmgn list {kind}")
        return matches[0][0]

    def load(self, spec: ComponentSpec) -> type:
        """Import the class of a component; this is where torch is imported.

        Raises:
            PluginError: the target cannot be imported or is no class.
        """
        module_name, _, attribute = spec.target.partition(":")
        try:
            loaded = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"cannot load {spec.kind.long_name} '{spec.name}' from {spec.target}: {error}",
                "see: esmgn plugins",
            ) from error
        if not isinstance(loaded, type):
            raise PluginError(f"{spec.kind.long_name} '{spec.name}': {spec.target} is not a class")
        return loaded


def _unknown(what: str, name: str, known: list[str], flag: str, command: str) -> UnknownComponentError:
    return UnknownComponentError(
        f"unknown {what} '{name}' ({flag})",
        *did_you_mean(name, known),
        f"available: {', '.join(known) or 'none'}",
        f"see: {command}",
    )


@functools.lru_cache(maxsize=1)
def discover() -> Registry:
    """Find, load and ask every plugin, each on its own, and read the catalogue; done once."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    disabled = disabled_plugins(user_registry())
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    plugins = [_load_plugin(manager, entry, disabled) for entry in found]
    files = [path for plugin in plugins if not plugin.problem for path in _registry_files(plugin)]
    return Registry(manager, plugins, read_catalogue(files))


def _load_plugin(manager: pluggy.PluginManager, entry: EntryPoint, disabled: frozenset[str]) -> Plugin:
    distribution = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else ""
    plugin = functools.partial(Plugin, entry.name, entry.value, distribution, version)
    if entry.name in disabled:
        return plugin(problem="disabled")
    module: ModuleType | None = None
    try:
        module = entry.load()
        manager.register(module, name=entry.name)
        manager.check_pending()
        return plugin(components=_declared(manager, entry.name))
    except (Exception, SystemExit) as error:
        # A stranger's module may raise anything; it must not take the program down.
        if os.environ.get("ESMGN_STRICT") == "1":
            raise
        if module is not None and manager.is_registered(module):
            manager.unregister(module)
        return plugin(problem=f"{type(error).__name__}: {error}")


def _declared(manager: pluggy.PluginManager, name: str) -> tuple[ComponentSpec, ...]:
    hooks = manager.hook.esmgn_components.get_hookimpls()
    declared = [spec for hook in hooks if hook.plugin_name == name for spec in hook.function()]
    for spec in declared:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"esmgn_components returned {spec!r}, expected ComponentSpec objects")
    return tuple(declared)


def _registry_files(plugin: Plugin) -> list[Path]:
    module = importlib.import_module(plugin.module)
    file = Path(module.__file__ or "").with_name("registry.toml")
    return [file] if file.exists() else []
