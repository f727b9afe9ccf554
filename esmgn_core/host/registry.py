"""Discover plugins and resolve names to the classes of components.

Every plugin, shipped or not, is found through the entry-point group ``esmgn``. A plugin that fails is
recorded with the reason, and the others stay usable. ``ESMGN_STRICT=1`` raises the error instead, for plugin
authors.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, metadata
from pathlib import Path
from typing import Any, cast

import pluggy

from esmgn_core.errors import EsmgnError, PluginError, SettingsError, UnknownComponentError, did_you_mean
from esmgn_core.host.api import api_problem
from esmgn_core.host.hooks import PROJECT, HookSpecs
from esmgn_core.host.presets import (
    RECIPE,
    WITHOUT_GPU,
    WITHOUT_STRUCT,
    Catalogue,
    Preset,
    Recipe,
    read_registry,
    read_user_registry,
    shipped_registry,
    user_registry,
)
from esmgn_core.machine.gpu import has_gpu
from esmgn_core.spec import ComponentSpec, Kind, pip_install

ENTRY_POINT_GROUP = "esmgn"
COMBINE = "+"
"""Separator between the names of pretext tasks that are trained together."""
_DISABLE = "ESMGN_DISABLE"
_COMBINATION = "esmgn_core.host.combined:combination"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin, in use or not.

    ``problem`` is the reason why it is not in use, empty if it is. ``disabled`` is True if the user switched
    it off. ``catalogue`` has the entries of the plugin's ``registry.toml``.
    """

    name: str
    module: str
    distribution: str
    version: str
    components: tuple[ComponentSpec, ...] = ()
    catalogue: Catalogue = field(default_factory=Catalogue)
    problem: str = ""
    disabled: bool = False

    def license_of(self, spec: ComponentSpec) -> str:
        """Licence of one of its components: as declared, else that of the package; empty if unknown."""
        if spec.license:
            return spec.license
        try:
            fields = metadata(self.distribution)
        except PackageNotFoundError:
            return ""
        return next((fields[key] for key in ("License-Expression", "License") if key in fields), "")


@dataclass(frozen=True, slots=True)
class ResolvedName:
    """The component and settings for the name of a component or preset.

    ``settings`` are those of the preset; other settings have the component's defaults.
    """

    spec: ComponentSpec
    settings: Mapping[str, Any]
    preset: Preset | None = None


class Registry:
    """All plugins, components, presets and recipes of this installation.

    Attributes:
        manager: calls hooks.
        plugins: all installed plugins, in use or not.
        catalogue: presets and recipes of all layers.
        warnings: warnings for the user, such as broken plugins.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        plugins: Iterable[Plugin],
        catalogue: Catalogue,
        warnings: Iterable[str] = (),
    ) -> None:
        self.manager = manager
        self.plugins = tuple(plugins)
        self.catalogue = catalogue
        self.warnings = (*warnings, *map(str, self._conflicts()))

    def components(self, kind: Kind) -> list[tuple[ComponentSpec, Plugin]]:
        """Components of one kind with their plugins, sorted by name."""
        pairs = [(spec, plugin) for plugin in self.plugins for spec in plugin.components if spec.kind == kind]
        return sorted(pairs, key=lambda pair: pair[0].name)

    def presets(self, kind: Kind) -> list[Preset]:
        """Presets of one kind, in the order of the registry files."""
        return [preset for preset in self.catalogue.presets.values() if preset.kind == kind]

    def names(self, kind: Kind) -> list[str]:
        """All valid values of the kind's flag: components and presets."""
        components = [spec.name for spec, _ in self.components(kind)]
        return list(dict.fromkeys([*components, *(preset.name for preset in self.presets(kind))]))

    def defaults(self) -> dict[Kind, str]:
        """The component or preset of each kind for runs that do not name one."""
        return {kind: name for kind in Kind if (name := self.catalogue.defaults.get(kind))}

    def fuser_of_sequence(self) -> str:
        """The fuser of a sequence encoder that is named without a structure encoder."""
        defaults = self.catalogue.defaults
        return defaults.get(WITHOUT_STRUCT) or defaults[Kind.FUSE]

    def recipe(self, name: str) -> Recipe:
        """The recipe of this name.

        Raises:
            UnknownComponentError: no recipe has this name.
        """
        if name not in self.catalogue.recipes:
            raise self._unknown(RECIPE, name, list(self.catalogue.recipes), "--recipe", "esmgn list recipe")
        return self.catalogue.recipes[name]

    def find(self, kind: Kind, name: str, *, where: str = "") -> ResolvedName:
        """Resolve a name: a preset, else a component with its defaults.

        Args:
            kind: kind of the component.
            name: as the user wrote it.
            where: flag or file with the name, for the message; the kind's flag if not given.

        Raises:
            UnknownComponentError: no preset or component has this name; the message suggests the nearest one.
            PluginError: several plugins declare the component.
        """
        if kind is Kind.PRETEXT and COMBINE in name:
            return self._combined(name, where)
        preset = self.catalogue.presets.get((kind, name))
        if preset is None:
            return ResolvedName(self.component(kind, name, where=where), {})
        try:
            return ResolvedName(self.component(kind, preset.component), preset.settings, preset)
        except UnknownComponentError:
            raise UnknownComponentError(
                f"preset '{name}' needs the {kind.long_name} '{preset.component}', which no plugin provides",
                f"the preset is defined in {preset.origin}",
                "see: esmgn plugins",
            ) from None

    def component(self, kind: Kind, name: str, *, where: str = "") -> ComponentSpec:
        """The component of this name; presets are ignored.

        Raises:
            UnknownComponentError: no plugin in use declares it.
            PluginError: several plugins declare it.
        """
        if kind is Kind.PRETEXT and COMBINE in name:
            return self._combined(name, where).spec
        matches = [spec for spec, _ in self.components(kind) if spec.name == name]
        if not matches:
            raise self._unknown(
                kind.long_name, name, self.names(kind), where or kind.chosen_by, f"esmgn list {kind}"
            )
        if len(matches) > 1:
            raise self._claimed(kind, name)
        return matches[0]

    def load(self, spec: ComponentSpec) -> type:
        """Import the class of a component, or a structure format. Usually imports torch.

        Raises:
            PluginError: the target cannot be imported or is not a class.
        """
        what = f"{spec.kind.long_name} '{spec.name}'"
        if spec.target == _COMBINATION:
            parts = {part: self.component(spec.kind, part) for part in spec.name.split(COMBINE)}
            module, _, function = _COMBINATION.partition(":")
            combine = getattr(importlib.import_module(module), function)
            return cast("type", combine({name: (part, self.load(part)) for name, part in parts.items()}))
        module_name, _, attribute = spec.target.partition(":")
        try:
            loaded = getattr(importlib.import_module(module_name), attribute)
        except EsmgnError:
            raise
        except Exception as error:
            if isinstance(error, ImportError) and spec.requires:
                raise PluginError(
                    f"{what} needs a package that cannot be imported: {error}",
                    f"install it: {spec.install_command or pip_install(spec.requires.values())}",
                    f"or choose another {spec.kind.long_name}: esmgn list {spec.kind}",
                ) from error
            if strict():
                raise
            raise PluginError(
                f"cannot load {what} from {spec.target}: {type(error).__name__}: {error}",
                "see the traceback: ESMGN_STRICT=1",
            ) from error
        if not isinstance(loaded, type) and spec.kind is not Kind.FORMAT:
            raise PluginError(f"{what}: {spec.target} is not a class")
        return cast("type", loaded)

    def _combined(self, name: str, where: str) -> ResolvedName:
        """Resolve a combination of pretext tasks; the settings of each preset are in its own table."""
        where = f"{where or '--pretext'}, in '{name}'"
        parts = [self.find(Kind.PRETEXT, part.strip(), where=where) for part in name.split(COMBINE)]
        names = [part.spec.name for part in parts]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SettingsError(
                f"pretext task '{twice}' is named twice ({where})", "name each task of a combination once"
            )
        summary = f"{', '.join(names[:-1])} and {names[-1]}, trained together"
        spec = ComponentSpec(Kind.PRETEXT, COMBINE.join(names), _COMBINATION, summary)
        return ResolvedName(spec, {part.spec.name: dict(part.settings) for part in parts if part.settings})

    def _conflicts(self) -> list[PluginError]:
        claims = Counter((spec.kind, spec.name) for plugin in self.plugins for spec in plugin.components)
        return [self._claimed(kind, name) for (kind, name), number in claims.items() if number > 1]

    def _claimed(self, kind: Kind, name: str) -> PluginError:
        owners = [plugin for spec, plugin in self.components(kind) if spec.name == name]
        claims = " and ".join(f"'{plugin.name}' ({plugin.distribution})" for plugin in owners)
        return PluginError(
            f"{kind.long_name} '{name}' is claimed by {len(owners)} plugins: {claims}",
            f"switch one off: {' or '.join(f'{_DISABLE}={plugin.name}' for plugin in owners)}",
        )

    def _unknown(
        self, what: str, name: str, known: list[str], where: str, command: str
    ) -> UnknownComponentError:
        unused = ", ".join(plugin.name for plugin in self.plugins if plugin.problem)
        return UnknownComponentError(
            f"unknown {what} '{name}' ({where})",
            *did_you_mean(name, known),
            f"available: {', '.join(known) or 'none'}",
            *([f"plugins not in use: {unused}; see: esmgn plugins"] if unused else []),
            f"see: {command}",
        )


@functools.lru_cache(maxsize=1)
def discover() -> Registry:
    """Load every installed plugin and read the catalogue; the result is cached."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    user = read_user_registry()
    disabled = _disabled(user)
    entries = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    plugins = [_load_plugin(manager, entry, disabled) for entry in entries]
    names = [plugin.name for plugin in plugins]
    warnings = [
        ", ".join([f"no plugin is called '{name}' ({where})", *did_you_mean(name, names)])
        for name, where in disabled.items()
        if name not in names
    ]
    warnings += [
        f"plugin '{plugin.name}' ({plugin.distribution} {plugin.version}) is broken: {plugin.problem}"
        for plugin in plugins
        if plugin.problem and not plugin.disabled
    ]
    layers = [read_registry(shipped_registry()), *(plugin.catalogue for plugin in plugins), user]
    return Registry(manager, plugins, functools.reduce(Catalogue.under, layers), warnings)


def suggested_encoder() -> str:
    """The sequence encoder to suggest: the default, or a smaller one on a machine without a GPU."""
    defaults = discover().catalogue.defaults
    return defaults[Kind.SEQ if has_gpu() or WITHOUT_GPU not in defaults else WITHOUT_GPU]


def suggested_composition() -> str:
    """The flags of a composition to suggest on this machine."""
    defaults = discover().defaults()
    return f"--seq {suggested_encoder()} --struct {defaults[Kind.STRUCT]} --fuse {defaults[Kind.FUSE]}"


def strict() -> bool:
    """True if ``ESMGN_STRICT`` is set: errors of plugins are raised instead of reported."""
    return os.environ.get("ESMGN_STRICT", "") not in ("", "0")


def _disabled(user: Catalogue) -> dict[str, str]:
    """Names of disabled plugins, with the place where the user disabled them."""
    named = {name.strip() for name in os.environ.get(_DISABLE, "").split(",")} - {""}
    return {
        **dict.fromkeys(user.disabled, f"disabled in {user_registry()}"),
        **dict.fromkeys(sorted(named), _DISABLE),
    }


def _load_plugin(manager: pluggy.PluginManager, entry: EntryPoint, disabled: Mapping[str, str]) -> Plugin:
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")
    plugin = functools.partial(Plugin, entry.name, entry.value, distribution, version)
    if entry.name in disabled:
        return plugin(problem=f"switched off ({disabled[entry.name]})", disabled=True)
    try:
        if problem := api_problem(entry):
            return plugin(problem=problem)
        module = entry.load()
        if manager.has_plugin(entry.name):
            return plugin(problem="another plugin has the same name")
        manager.register(module, name=entry.name)
        manager.check_pending()
        return plugin(components=_declared(manager, entry.name), catalogue=_own_catalogue(entry))
    except (Exception, SystemExit) as error:
        # Third-party code may raise anything and must not end the program.
        if strict():
            raise
        if manager.has_plugin(entry.name):
            manager.unregister(name=entry.name)
        return plugin(problem=f"{type(error).__name__}: {error}")


def _declared(manager: pluggy.PluginManager, name: str) -> tuple[ComponentSpec, ...]:
    declared: list[ComponentSpec] = []
    for hook in manager.hook.esmgn_components.get_hookimpls():
        if hook.plugin_name == name:
            declared += cast("list[ComponentSpec]", hook.function())
    for spec in declared:
        if not isinstance(spec, ComponentSpec):
            raise PluginError(f"esmgn_components returned {spec!r}, expected ComponentSpec objects")
    for (kind, component), number in Counter((spec.kind, spec.name) for spec in declared).items():
        if number > 1:
            raise PluginError(f"esmgn_components declares {kind} '{component}' twice")
    return tuple(declared)


def _own_catalogue(entry: EntryPoint) -> Catalogue:
    origin = sys.modules[entry.module].__file__
    file = Path(origin).with_name("registry.toml") if origin else None
    catalogue = read_registry(file) if file and file.exists() else Catalogue()
    if catalogue.disabled or catalogue.defaults:
        raise SettingsError(
            f"registry {file}: only the user's own registry may disable plugins or change defaults"
        )
    return catalogue
