"""``esmgn list``: the names of components, presets and recipes."""

from __future__ import annotations

from typing import Annotated

import typer

from esmgn_cli.render import block, line_width, table
from esmgn_core.errors import UnknownComponentError, did_you_mean
from esmgn_core.host.presets import RECIPE, Preset, Recipe
from esmgn_core.host.registry import Registry, discover
from esmgn_core.spec import ComponentSpec, Kind

KINDS = (*Kind, RECIPE)


def list_names(
    kind: Annotated[
        str | None, typer.Argument(help=f"List one kind: {', '.join(KINDS)}.", show_default=False)
    ] = None,
) -> None:
    """List components, presets and recipes."""
    if kind is not None and kind not in KINDS:
        raise UnknownComponentError(
            f"unknown kind '{kind}'", *did_you_mean(kind, KINDS), f"available: {', '.join(KINDS)}"
        )
    registry = discover()
    block("\n\n".join(_section(registry, name) for name in KINDS if kind in (None, name)))


def _section(registry: Registry, kind: str) -> str:
    if kind == RECIPE:
        title = "recipes (--recipe)"
        rows = [(recipe.name, _with_origin(recipe)) for recipe in registry.catalogue.recipes.values()]
        return "\n".join([title, table(rows, width=line_width()) if rows else "  none"])
    title = f"{Kind(kind).long_name}s ({Kind(kind).chosen_by})"
    components = registry.components(Kind(kind))
    presets = registry.presets(Kind(kind))
    sourced = [
        (spec.name, f"plugin {plugin.name}", _summary(spec.summary, spec)) for spec, plugin in components
    ]
    specs = {spec.name: spec for spec, _ in components}
    sourced += [
        (
            preset.name,
            f"preset of {preset.component}",
            _summary(_with_origin(preset), specs.get(preset.component)),
        )
        for preset in presets
    ]
    return "\n".join([title, table(sourced, width=line_width()) if sourced else "  none"])


def _summary(summary: str, spec: ComponentSpec | None) -> str:
    """The summary, and how to install what the component needs and is missing."""
    command = spec.install_command if spec else ""
    return f"{summary}; needs {command}" if command else summary


def _with_origin(entry: Preset | Recipe) -> str:
    return f"{entry.summary}; overridden by {entry.origin}" if entry.overrides else entry.summary
