"""Discover plugins and resolve names to the classes of components.

Every plugin, shipped or not, is found through the entry-point group ``esmgn``. A plugin that fails is
recorded with the reason, and the others stay usable. ``ESMGN_STRICT=1`` raises the error instead, for plugin
authors.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import pluggy

from esmgn_core.errors import EsmgnError, PluginError, SettingsError, UnknownComponentError, did_you_mean
from esmgn_core.host.api import api_problem
from esmgn_core.host.hooks import PROJECT, HookSpecs
from esmgn_core.host.names import PACKAGE, SEPARATOR, Owner, addressed, conflict, merged
from esmgn_core.host.presets import (
    RECIPE,
    WITHOUT_GPU,
    WITHOUT_STRUCT,
    Catalogue,
    Preset,
    Recipe,
    check_name,
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


class Layers(NamedTuple):
    """The entries of esmgn and those of the user."""

    shipped: Catalogue
    user: Catalogue


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
        catalogue: presets and recipes of all layers; some have an address ``plugin:name``.
        warnings: warnings for the user, such as broken plugins and claimed names.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        plugins: Iterable[Plugin],
        catalogues: Layers,
        warnings: Iterable[str] = (),
    ) -> None:
        self.manager = manager
        plugins = tuple(plugins)
        declared, claimed = addressed([(plugin.owner, plugin.components) for plugin in plugins])
        self.plugins = tuple(
            replace(plugin, components=specs) for plugin, specs in zip(plugins, declared, strict=True)
        )
        layers = [(plugin.owner, plugin.own_catalogue) for plugin in self.plugins]
        entries, conflicts = merged(catalogues.shipped, layers, itertools.chain(*declared))
        self.catalogue = entries.under(catalogues.user)
        self._layers = {PACKAGE: catalogues.shipped, **{owner.plugin: layer for owner, layer in layers}}
        self.warnings = (*warnings, *claimed, *conflicts)
        self._check_user(catalogues.user)

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
        found = self.entry("recipes", name)
        if found is None:
            raise self._unknown(RECIPE, name, list(self.catalogue.recipes), "--recipe", "esmgn list recipe")
        return cast("Recipe", found)

    def entry(self, section: str, name: Any) -> Any:
        """An entry of the catalogue by its key; the name in it may be an address ``plugin:name``.

        Args:
            section: one of :data:`esmgn_core.host.presets.SECTIONS`.
            name: the key: name, or kind and name of a preset.

        Returns:
            The entry; ``None`` if there is none.

        Raises:
            PluginError: several plugins claim the plain name.
        """
        if name in (entries := getattr(self.catalogue, section)):
            return entries[name]
        kind, text = name if isinstance(name, tuple) else ("", name)
        plugin, separator, local = text.partition(SEPARATOR)
        if separator:
            layer = self._layers.get(plugin, Catalogue())
            return getattr(layer, section).get((kind, local) if kind else local)
        found = [entry.name for entry in entries.values() if entry.name.endswith(f"{SEPARATOR}{text}")]
        if kind:
            found = [address for address in found if (kind, address) in entries]
        if len(found) > 1:
            raise PluginError(
                f"'{text}' is claimed by {len(found)} plugins", f"name one: {' or '.join(found)}"
            )
        return None

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
        preset = cast("Preset | None", self.entry("presets", (kind, name)))
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
        claimants = []
        for spec, plugin in self.components(kind):
            local = spec.name.rpartition(SEPARATOR)[2]
            if name in (spec.name, plugin.owner.address(local)):
                return spec
            claimants += [plugin.owner] * (local == name)
        if claimants:
            raise PluginError(*conflict(f"{kind.long_name} '{name}'", name, claimants).split("\n  "))
        raise self._unknown(
            kind.long_name, name, self.names(kind), where or kind.chosen_by, f"esmgn list {kind}"
        )

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
        for name in names:
            if SEPARATOR in name:
                raise SettingsError(
                    f"pretext task '{name}' cannot be combined: another plugin has its name ({where})",
                    "switch the other plugin off: ESMGN_DISABLE=PLUGIN",
                )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SettingsError(
                f"pretext task '{twice}' is named twice ({where})", "name each task of a combination once"
            )
        summary = f"{', '.join(names[:-1])} and {names[-1]}, trained together"
        spec = ComponentSpec(Kind.PRETEXT, COMBINE.join(names), _COMBINATION, summary)
        return ResolvedName(spec, {part.spec.name: dict(part.settings) for part in parts if part.settings})

    def _check_user(self, user: Catalogue) -> None:
        """Refuse presets of the user's registry that have the name of a component of their kind."""
        for kind, name in user.presets:
            if name in [spec.name for spec, _ in self.components(kind)]:
                raise SettingsError(
                    f"registry {user_registry()}: [{kind}.{name}] has the name of a {kind.long_name}",
                    "give the preset another name",
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
    in_use = [entry for entry in entries if not _switched_off(entry, disabled)]
    plugins = [_load_plugin(manager, entry, disabled, _same_name(entry, in_use)) for entry in entries]
    names = [name for plugin in plugins for name in (plugin.name, plugin.distribution)]
    warnings = [
        ", ".join([f"no plugin or package is called '{name}' ({where})", *did_you_mean(name, names)])
        for name, where in disabled.items()
        if name not in names
    ]
    warnings += [
        f"plugin '{plugin.name}' ({plugin.distribution} {plugin.version}) is broken: {plugin.problem}"
        for plugin in plugins
        if plugin.problem and not plugin.disabled
    ]
    return Registry(manager, plugins, Layers(read_registry(shipped_registry()), user), warnings)


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
        if problem := api_problem(entry):
            return plugin(problem=problem)
        module = entry.load()
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
        check_name(spec.kind.long_name, spec.name)
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
