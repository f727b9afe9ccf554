"""Completion of names in the shell: ``esmgn --install-completion``. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from esmgn_core.host.presets import RECIPE
from esmgn_core.host.registry import COMBINE, discover
from esmgn_core.spec import Kind

Completed = list[tuple[str, str]]
"""Values with their help."""


def names_of(kind: Kind | str) -> Callable[[str], Completed]:
    """Completion of the names of one kind, or of recipes; pretext tasks also after a ``+``."""

    def complete(incomplete: str) -> Completed:
        begun, plus, _ = incomplete.rpartition(COMBINE) if kind is Kind.PRETEXT else ("", "", "")
        return [(begun + plus + name, summary) for name, summary in _named(kind)]

    return complete


def any_name(incomplete: str) -> Completed:  # noqa: ARG001 - typer filters the values
    """Completion of all names that ``esmgn show`` accepts."""
    return [item for kind in (*Kind, RECIPE) for item in _named(kind)]


def plugin_names(incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters the values
    """Completion of plugins and packages."""
    return sorted({name for plugin in discover().plugins for name in (plugin.name, plugin.distribution)})


def weights_names(incomplete: str) -> Completed:  # noqa: ARG001 - typer filters the values
    """Completion of the names of published weights."""
    catalogue = discover().catalogue
    presets = [item for item in catalogue.presets.values() if "checkpoint" in item.settings]
    named = [(item.name, item.summary) for item in presets]
    return [*named, *((item.name, item.summary) for item in catalogue.weights.values())]


def study_names(incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters the values
    """Completion of shipped studies."""
    from esmgn_core.study.shipped import shipped_studies

    return [*shipped_studies()]


def words(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Completion of fixed words."""

    def complete(incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters the values
        return list(values)

    return complete


def _named(kind: Kind | str) -> Completed:
    registry = discover()
    if kind == RECIPE:
        return [(recipe.name, recipe.summary) for recipe in registry.catalogue.recipes.values()]
    found = [(spec.name, spec.summary) for spec, _ in registry.components(Kind(kind))]
    return [*found, *((preset.name, preset.summary) for preset in registry.presets(Kind(kind)))]
