"""``esmgn show``: one component, preset, recipe or engine table with its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from esmgn_cli.render import block
from esmgn_core.errors import PluginError, UnknownComponentError, did_you_mean, shown
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.presets import Preset, Recipe
from esmgn_core.host.registry import COMBINE, Registry, discover
from esmgn_core.spec import PARTS, ComponentSpec, Kind


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A component, preset or recipe, tasks such as residue_type+distance, a table such as train, "
            "or reference."
        ),
    ],
) -> None:
    """Show a component, preset, recipe or table with its settings."""
    from esmgn_core.host.configure import ENGINE_TABLES, REFERENCE

    registry = discover()
    parts = list(_descriptions(registry, name))
    if not parts:
        for kind in Kind:
            if any(spec.name.endswith(f"{SEPARATOR}{name}") for spec, _ in registry.components(kind)):
                registry.component(kind, name)  # raises an error that lists the claimants
        known = [known for kind in Kind for known in registry.names(kind)]
        known += [*registry.catalogue.recipes, *ENGINE_TABLES, REFERENCE]
        raise UnknownComponentError(f"unknown name '{name}'", *did_you_mean(name, known), "see: esmgn list")
    block("\n\n".join(parts))


def _descriptions(registry: Registry, name: str) -> Iterator[str]:
    from esmgn_cli.settings_text import settings_text
    from esmgn_core.host.configure import ENGINE_TABLES, REFERENCE

    for kind in Kind:
        if preset := registry.entry("presets", (kind, name)):
            yield _preset(registry, preset)
        for spec, plugin in registry.components(kind):
            if name in (spec.name, plugin.owner.address(spec.name)):
                yield _component(registry, spec)
    if COMBINE in name:
        yield _component(registry, registry.component(Kind.PRETEXT, name, where="esmgn show"))
    if recipe := registry.entry("recipes", name):
        yield _recipe(recipe)
    if name == REFERENCE:
        yield _reference(registry)
    if name in ENGINE_TABLES:
        model = ENGINE_TABLES[name]
        yield f"table [{name}]\n{settings_text(model)}"


def _reference(registry: Registry) -> str:
    """Settings that ``reference = true`` changes in every component and table."""
    from esmgn_core.host.configure import ENGINE_TABLES
    from esmgn_core.settings import settings_class

    lines = [
        "setting 'reference', outside of all tables: true reproduces the original code everywhere",
        "run it: esmgn run --recipe NAME --set reference=true; what differs and why: docs/fidelity.md",
    ]
    for kind in PARTS:
        for spec, _ in registry.components(kind):
            try:
                model = settings_class(spec, registry.load(spec))
            except PluginError:
                continue  # its extra is not installed
            original = model.original({"max_length": "max_length"})
            lines += [f"  {kind} '{spec.name}'  {name} = {shown(value)}" for name, value in original.items()]
    for table, model in ENGINE_TABLES.items():
        lines += [f"  [{table}]  {name} = {shown(value)}" for name, value in model.originals.items()]
    return "\n".join(lines)


def _preset(registry: Registry, preset: Preset) -> str:
    spec = registry.component(preset.kind, preset.component)
    title = f"{preset.kind.long_name} preset '{preset.name}': {preset.summary}"
    return f"{title}\n{_from(preset)}\n{_implemented(registry, spec, preset.settings)}"


def _from(entry: Preset | Recipe) -> str:
    return f"from {entry.origin}" + (f", which overrides {entry.overrides}" if entry.overrides else "")


def _component(registry: Registry, spec: ComponentSpec) -> str:
    title = f"{spec.kind.long_name} '{spec.name}': {spec.summary}"
    return f"{title}\n{_implemented(registry, spec, {})}"


def _implemented(registry: Registry, spec: ComponentSpec, preset: Mapping[str, Any]) -> str:
    from esmgn_cli.settings_text import settings_text
    from esmgn_core.settings import settings_class

    origin = f"component {spec.name} ({spec.target})"
    for plugin in [plugin for candidate, plugin in registry.components(spec.kind) if candidate == spec]:
        origin += f", plugin {plugin.name}, {plugin.distribution} {plugin.version}"
    if spec.kind is Kind.FORMAT:  # without settings
        return origin
    try:
        component = registry.load(spec)
    except PluginError as error:
        if not (spec.requires and isinstance(error.__cause__, ImportError)):
            raise
        return f"{origin}\nits settings cannot be shown without its package\n  {error}"
    return f"{origin}\n{settings_text(settings_class(spec, component), preset)}"


def _recipe(recipe: Recipe) -> str:
    lines = [f"recipe '{recipe.name}': {recipe.summary}", _from(recipe)]
    lines += [f"  {table} = {shown(values)}" for table, values in recipe.run.items()]
    return "\n".join(lines)
