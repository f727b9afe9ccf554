"""Resolve names to the classes of components."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import pluggy

from esmgn_core.errors import EsmgnError, PluginError, SettingsError, UnknownComponentError, did_you_mean
from esmgn_core.host.names import PACKAGE, SEPARATOR, Claims, Key, Owner
from esmgn_core.host.plugins import Plugin, find_plugins, strict
from esmgn_core.host.presets import (
    RECIPE,
    SECTIONS,
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

COMBINE = "+"
"""Separator between the names of pretext tasks that are trained together."""
_COMBINATION = "esmgn_core.host.combined:combination"


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
        owners: owner of each registry file, by path; without the user's.
        shipped_defaults: the defaults without those of the user.
        conflicts: messages about names that several claim, with what to do.
        warnings: these, and other warnings for the user, such as broken plugins.
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
        core = Owner(PACKAGE, PACKAGE)
        claims = Claims(
            [
                (core, (), catalogues.shipped),
                *((plugin.owner, plugin.components, plugin.catalogue) for plugin in plugins),
            ]
        )
        self.plugins = tuple(
            replace(plugin, components=claims.components(plugin.owner, plugin.components))
            for plugin in plugins
        )
        pairs = [(spec, plugin) for plugin in self.plugins for spec in plugin.components]
        pairs.sort(key=lambda pair: pair[0].name)
        self._components = {kind: [pair for pair in pairs if pair[0].kind == kind] for kind in Kind}
        layers = [(core, catalogues.shipped)]
        layers += [(plugin.owner, plugin.own_catalogue) for plugin in self.plugins if not plugin.problem]
        self._layers = {owner.plugin: layer for owner, layer in layers}
        self.shipped_defaults = catalogues.shipped.defaults
        self.owners = {
            entry.origin: owner
            for owner, layer in layers
            for section in SECTIONS
            for entry in getattr(layer, section).values()
        }
        own, refused = self._of_the_user(catalogues.user)
        self.catalogue = claims.catalogue(layers).under(own)
        overridden = {(section, key) for section in SECTIONS for key in getattr(own, section)}
        self._disputed = {
            name: text for name, text in claims.disputed.items() if name not in overridden
        } | refused
        self.conflicts = (*claims.warnings, *refused.values())
        self.warnings = (*warnings, *self.conflicts)

    def components(self, kind: Kind) -> list[tuple[ComponentSpec, Plugin]]:
        """Components of one kind with their plugins, sorted by name."""
        return self._components[kind]

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
        self._check_undisputed(section, name)
        if name in (entries := getattr(self.catalogue, section)):
            return entries[name]
        kind, text = name if isinstance(name, tuple) else ("", name)
        plugin, separator, local = text.partition(SEPARATOR)
        if separator:
            layer = self._layers.get(plugin, Catalogue())
            return getattr(layer, section).get((kind, local) if kind else local)
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
        self._check_undisputed("presets", (kind, name))
        for spec, plugin in self.components(kind):
            if name in (spec.name, plugin.owner.address(spec.name.rpartition(SEPARATOR)[2])):
                return spec
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
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SettingsError(
                f"pretext task '{twice}' is named twice ({where})", "name each task of a combination once"
            )
        summary = f"{', '.join(names[:-1])} and {names[-1]}, trained together"
        spec = ComponentSpec(Kind.PRETEXT, COMBINE.join(names), _COMBINATION, summary)
        return ResolvedName(spec, {part.spec.name: dict(part.settings) for part in parts if part.settings})

    def _of_the_user(self, user: Catalogue) -> tuple[Catalogue, dict[Key, str]]:
        """The user's entries; and messages about presets that have the name of a component of their kind."""
        components = {(spec.kind, spec.name) for plugin in self.plugins for spec in plugin.components}
        refused: dict[Key, str] = {
            ("presets", (kind, name)): (
                f"registry {user_registry()}: [{kind}.{name}] has the name of a {kind.long_name}\n"
                "  give the preset another name"
            )
            for kind, name in user.presets
            if (kind, name) in components
        }
        presets = {key: preset for key, preset in user.presets.items() if key not in components}
        return replace(user, presets=presets), refused

    def _check_undisputed(self, section: str, key: Any) -> None:
        if text := self._disputed.get((section, key)):
            raise PluginError(*text.split("\n  "))

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
    user = read_user_registry()
    manager, plugins, warnings = find_plugins(user.disabled)
    return Registry(manager, plugins, Layers(read_registry(shipped_registry()), user), warnings)


def suggested_encoder() -> str:
    """The sequence encoder to suggest: the default, or a smaller one on a machine without a GPU."""
    defaults = discover().catalogue.defaults
    return defaults[Kind.SEQ if has_gpu() or WITHOUT_GPU not in defaults else WITHOUT_GPU]


def suggested_composition() -> str:
    """The flags of a composition to suggest on this machine."""
    defaults = discover().defaults()
    return f"--seq {suggested_encoder()} --struct {defaults[Kind.STRUCT]} --fuse {defaults[Kind.FUSE]}"
