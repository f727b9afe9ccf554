"""``esmgn show``: one component, preset, recipe or engine table with its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esmgn_cli.render import short, table
from esmgn_core.errors import UnknownComponentError, did_you_mean
from esmgn_core.registry import Registry, discover
from esmgn_core.spec import Kind

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from esmgn_core.presets import Preset, Recipe

_ENGINE_TABLES = ("optim", "train")


def show(
    name: Annotated[str, typer.Argument(help="A component, preset, recipe, or the tables optim and train.")],
) -> None:
    """Show what a name stands for and its settings."""
    registry = discover()
    parts = list(_descriptions(registry, name))
    if not parts:
        known = {known for kind in Kind for known in registry.names(kind)}
        known |= {*registry.catalogue.recipes, *_ENGINE_TABLES}
        raise UnknownComponentError(f"nothing is called '{name}'", *did_you_mean(name, known), "see: esmgn list")
    typer.echo("\n\n".join(parts))


def _descriptions(registry: Registry, name: str) -> Iterator[str]:
    for kind in Kind:
        preset = registry.catalogue.presets.get((kind, name))
        if preset:
            yield _preset(preset)
        if preset or name in registry.names(kind):
            yield _component(registry, kind, preset.component if preset else name)
    if name in registry.catalogue.recipes:
        yield _recipe(registry.catalogue.recipes[name])
    if name in _ENGINE_TABLES:
        from esmgn_core.settings import RunConfig

        model = RunConfig.model_fields[name].annotation
        yield f"table [{name}]\n{_settings(model)}"  # type: ignore[arg-type]  # both tables are models


def _preset(preset: Preset) -> str:
    values = [(key, short(value)) for key, value in _flat(preset.settings)]
    lines = [f"{preset.kind} preset '{preset.name}': {preset.summary}"]
    lines += [f"component {preset.component}, from {preset.origin}"]
    return "\n".join([*lines, table(values)] if values else lines)


def _recipe(recipe: Recipe) -> str:
    values = [(key, short(value)) for key, value in _flat(recipe.run)]
    return f"recipe '{recipe.name}': {recipe.summary}\nfrom {recipe.origin}\n{table(values)}"


def _component(registry: Registry, kind: Kind, name: str) -> str:
    from esmgn_core.configure import settings_class

    spec = registry.component(kind, name)
    plugin = next(plugin for other, plugin in registry.components(kind) if other == spec)
    component = registry.load(spec)
    return "\n".join(
        [
            f"{kind.long_name} '{spec.name}': {spec.summary}",
            f"{spec.target}, plugin {plugin.name} ({plugin.distribution} {plugin.version})",
            _settings(settings_class(spec, component)),
        ]
    )


def _settings(model: type[BaseModel]) -> str:
    rows = [
        (name, _type_text(field), short(field.get_default(call_default_factory=True)), _one_line(field.description))
        for name, field in model.model_fields.items()
    ]
    return table([("setting", "type", "default", "meaning"), *rows]) if rows else "  no settings"


def _type_text(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for prefix in ("typing.", "pathlib.", "pathlib._local."):
        text = text.replace(prefix, "")
    return text.replace("Literal", "").strip("[]") if "Literal" in text else text


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
