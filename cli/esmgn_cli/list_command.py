"""``esmgn list``: every name that can be used."""

from __future__ import annotations

from typing import Annotated

import typer

from esmgn_cli.render import table
from esmgn_core.errors import UnknownComponentError, did_you_mean
from esmgn_core.registry import Registry, discover
from esmgn_core.spec import Kind

RECIPE = "recipe"


def list_names(
    kind: Annotated[str | None, typer.Argument(help="seq, struct, fuse, graph, pretext, data or recipe.")] = None,
) -> None:
    """List components, presets and recipes."""
    registry = discover()
    kinds = [*Kind, RECIPE]
    if kind is not None and kind not in kinds:
        raise UnknownComponentError(
            f"unknown kind '{kind}'", *did_you_mean(kind, kinds), f"kinds: {', '.join(kinds)}"
        )
    sections = [_section(registry, name) for name in kinds if kind in (None, name)]
    typer.echo("\n\n".join(sections))
    broken = [plugin for plugin in registry.plugins if plugin.problem not in ("", "disabled")]
    if broken:
        typer.echo(f"\n{len(broken)} plugin(s) could not be loaded, see: esmgn plugins", err=True)


def _section(registry: Registry, kind: str) -> str:
    if kind == RECIPE:
        title = "recipes (--recipe)"
        rows = [(recipe.name, "", recipe.summary) for _, recipe in sorted(registry.catalogue.recipes.items())]
    else:
        title = f"{Kind(kind).long_name}s (--{kind})"
        rows = [
            (spec.name, f"plugin {plugin.name}", spec.summary) for spec, plugin in registry.components(Kind(kind))
        ]
        rows += [(p.name, f"preset of {p.component}", p.summary) for p in registry.presets(Kind(kind))]
    return "\n".join([title, table(sorted(rows)) if rows else "  none"])
