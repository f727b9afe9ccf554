"""Find and load installed plugins.

Every plugin, shipped or not, is found through the entry-point group ``esmgn``. A plugin that fails is
recorded with the reason, and the others stay usable. ``ESMGN_STRICT=1`` raises the error instead, for plugin
authors.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from esmgn_core.errors import PluginError, SettingsError, did_you_mean
from esmgn_core.host.api import api_problem, api_requirement
from esmgn_core.host.hooks import PROJECT, HookSpecs
from esmgn_core.host.names import PACKAGE, SEPARATOR, Owner
from esmgn_core.host.presets import Catalogue, check_name, read_registry, user_registry
from esmgn_core.spec import ComponentSpec

ENTRY_POINT_GROUP = "esmgn"
_DISABLE = "ESMGN_DISABLE"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin, in use or not.

    ``problem`` is the reason why it is not in use, empty if it is. ``disabled`` is True if the user switched
    it off. ``catalogue`` has the entries of the plugin's ``registry.toml``. ``notes`` are faults
    with which it can be used. ``made_for`` has the versions of esmgn that it states, empty for none.
    """

    name: str
    module: str
    distribution: str
    version: str
    components: tuple[ComponentSpec, ...] = ()
    catalogue: Catalogue = field(default_factory=Catalogue)
    problem: str = ""
    disabled: bool = False
    notes: tuple[str, ...] = ()
    made_for: str = ""

    def license_of(self, spec: ComponentSpec) -> str:
        """Licence of one of its components: as declared, else that of the package; empty if unknown."""
        if spec.license:
            return spec.license
        try:
            fields = metadata(self.distribution)
        except PackageNotFoundError:
            return ""
        return next((fields[key] for key in ("License-Expression", "License") if key in fields), "")

    @property
    def owner(self) -> Owner:
        """The plugin and its package, as the owner of names."""
        return Owner(self.name, self.distribution)

    @property
    def own_catalogue(self) -> Catalogue:
        """Its entries; presets name its own components by their addresses, if these have one."""
        addresses = {(spec.kind, spec.name.rpartition(SEPARATOR)[2]): spec.name for spec in self.components}
        presets = {
            key: replace(preset, component=addresses.get((preset.kind, preset.component), preset.component))
            for key, preset in self.catalogue.presets.items()
        }
        return replace(self.catalogue, presets=presets)


def find_plugins(disabled_in_registry: Iterable[str]) -> tuple[pluggy.PluginManager, list[Plugin], list[str]]:
    """Load every installed plugin.

    Args:
        disabled_in_registry: plugins or packages that the user's registry disables.

    Returns:
        What calls their hooks; the plugins, in use or not; warnings for the user.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    disabled = _disabled(disabled_in_registry)
    entries = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    in_use = [entry for entry in entries if not _switched_off(entry, disabled)]
    plugins = [_load_plugin(manager, entry, disabled, _same_name(entry, in_use)) for entry in entries]
    names = [name for plugin in plugins for name in (plugin.name, plugin.distribution)]
    warnings = [
        ", ".join([f"no plugin or package is called '{name}' ({where})", *did_you_mean(name, names)])
        for name, where in disabled.items()
        if name not in names
    ]
    for plugin in plugins:
        title = f"plugin '{plugin.name}' ({plugin.distribution} {plugin.version})"
        if plugin.problem and not plugin.disabled:
            warnings.append(f"{title} is not in use: {plugin.problem}")
        warnings += [f"{title}: {note}" for note in plugin.notes]
    return manager, plugins, warnings


def strict() -> bool:
    """True if ``ESMGN_STRICT`` is set: errors of plugins are raised instead of reported."""
    return os.environ.get("ESMGN_STRICT", "") not in ("", "0")


def _disabled(in_registry: Iterable[str]) -> dict[str, str]:
    """Names of disabled plugins, with the place where the user disabled them."""
    named = {name.strip() for name in os.environ.get(_DISABLE, "").split(",")} - {""}
    return {
        **dict.fromkeys(in_registry, f"disabled in {user_registry()}"),
        **dict.fromkeys(sorted(named), _DISABLE),
    }


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "unknown"


def _switched_off(entry: EntryPoint, disabled: Mapping[str, str]) -> str:
    """Where the user switched the plugin off, by its name or that of its package; empty if not."""
    return disabled.get(entry.name) or disabled.get(_package(entry)) or ""


def _same_name(entry: EntryPoint, entries: Iterable[EntryPoint]) -> str:
    """The problem with a plugin whose name other packages use too; empty if it can be used."""
    packages = [_package(other) for other in entries if other.name == entry.name]
    others = [package for package in packages if package != _package(entry)]
    if not others or _package(entry) == PACKAGE:
        return ""
    if PACKAGE in others:
        return f"plugin '{entry.name}' of {PACKAGE} has the same name: the author has to rename this one"
    claims = " and ".join(sorted(packages))
    return f"{claims} both have a plugin '{entry.name}': switch one off, such as {_DISABLE}={others[0]}"


def _load_plugin(
    manager: pluggy.PluginManager, entry: EntryPoint, disabled: Mapping[str, str], problem: str
) -> Plugin:
    version = entry.dist.version if entry.dist else ""
    plugin = functools.partial(Plugin, entry.name, entry.value, _package(entry), version)
    if where := _switched_off(entry, disabled):
        return plugin(problem=f"switched off ({where})", disabled=True)
    if problem:
        return plugin(problem=problem)
    try:
        check_name("plugin", entry.name)
        if problem := _reserved(entry.name) or api_problem(entry):
            return plugin(problem=problem)
        module, notes = _imported(entry)
        notes += _unmarked_hooks(module)
        manager.register(module, name=entry.name)
        manager.check_pending()
        components, catalogue = _declared(manager, entry.name), _own_catalogue(entry)
        _check_presets(components, catalogue)
        return plugin(
            components=components, catalogue=catalogue, notes=tuple(notes), made_for=api_requirement(entry)
        )
    except (Exception, SystemExit) as error:
        # Third-party code may raise anything and must not end the program.
        if strict():
            raise
        if manager.has_plugin(entry.name):
            manager.unregister(name=entry.name)
        return plugin(problem=" ".join(f"{type(error).__name__}: {error}".split()))


def _imported(entry: EntryPoint) -> tuple[ModuleType, list[str]]:
    """The module of a plugin, and a note if it imports torch."""
    before, start = set(sys.modules), time.perf_counter()
    module: ModuleType = entry.load()
    milliseconds = 1000 * (time.perf_counter() - start)
    if "torch" not in sys.modules:
        return module, []
    imported = [sys.modules[name] for name in sys.modules.keys() - before] + [module]
    if "torch" not in before:
        cost = f"{milliseconds:.0f} ms in every command"
    elif any(sys.modules["torch"] in vars(one).values() for one in imported):
        cost = "as another plugin does"  # and what it would take alone is unknown
    else:
        return module, []
    note = f"its module {entry.module} imports torch, {cost}: import it in the modules of components"
    return module, [note]


def _unmarked_hooks(module: ModuleType) -> list[str]:
    """Notes on functions that are named like hooks and lack ``@hookimpl``."""
    hooks = [name for name in vars(HookSpecs) if name.startswith(PROJECT)]
    unmarked = [
        name
        for name, value in vars(module).items()
        if name.startswith(f"{PROJECT}_")
        and inspect.isfunction(value)
        and not hasattr(value, f"{PROJECT}_impl")
    ]
    return [
        f"{name} is not used: @hookimpl is missing"
        if name in hooks
        else ", ".join([f"{name} is not a hook", *did_you_mean(name, hooks)])
        for name in unmarked
    ]


def _list_of(declared: Any) -> list[ComponentSpec]:
    """What ``esmgn_components`` returned."""
    if declared is None:
        raise PluginError("esmgn_components returned nothing: return a list of ComponentSpec objects")
    if isinstance(declared, ComponentSpec):
        raise PluginError("esmgn_components returned one ComponentSpec: return a list, [ComponentSpec(...)]")
    return list(declared)


def _declared(manager: pluggy.PluginManager, name: str) -> tuple[ComponentSpec, ...]:
    declared: list[ComponentSpec] = []
    for hook in manager.hook.esmgn_components.get_hookimpls():
        if hook.plugin_name == name:
            declared += _list_of(hook.function())
    for spec in declared:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"esmgn_components returned {spec!r}, expected ComponentSpec objects")
        check_name(spec.kind.long_name, spec.name)
    for (kind, component), number in Counter((spec.kind, spec.name) for spec in declared).items():
        if number > 1:
            raise PluginError(f"esmgn_components declares {kind} '{component}' twice")
    return tuple(declared)


def _reserved(name: str) -> str:
    return f"the name '{PACKAGE}' is reserved for {PACKAGE}{SEPARATOR}NAME" if name == PACKAGE else ""


def _check_presets(components: Iterable[ComponentSpec], catalogue: Catalogue) -> None:
    for spec in components:
        if preset := catalogue.presets.get((spec.kind, spec.name)):
            raise SettingsError(
                f"registry {preset.origin}: [{spec.kind}.{spec.name}] has the name of a component"
            )


def _own_catalogue(entry: EntryPoint) -> Catalogue:
    origin = sys.modules[entry.module].__file__
    file = Path(origin).with_name("registry.toml") if origin else None
    catalogue = read_registry(file) if file and file.exists() else Catalogue()
    if catalogue.disabled or catalogue.defaults:
        raise SettingsError(
            f"registry {file}: only the user's own registry may disable plugins or change defaults"
        )
    return catalogue
