"""``esmgn show``: one component, preset, recipe or engine table with its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from esmgn_cli.completion import any_name
from esmgn_cli.contents import KINDS, Record, component_record, preset_record, recipe_record
from esmgn_cli.render import block
from esmgn_core.errors import PluginError, SettingsError, UnknownComponentError, did_you_mean, shown
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.presets import RECIPE, Preset, Recipe
from esmgn_core.host.registry import COMBINE, Registry, discover
from esmgn_core.spec import PARTS, ComponentSpec, Kind


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A component, preset or recipe, tasks such as residue_type+distance, a table such as train, "
            "or reference. KIND:NAME for one kind.",
            autocompletion=any_name,
        ),
    ],
    *,
    size: Annotated[
        bool, typer.Option("--size", help="Also count parameters and output width, without weights.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list with all facts.")] = False,
) -> None:
    """Show a component, preset, recipe or table with its settings."""
    from esmgn_core.host.configure import ENGINE_TABLES, REFERENCE

    registry = discover()
    word, _, rest = name.partition(SEPARATOR)
    kinds, name = ([word], rest) if word in KINDS and rest else (list(KINDS), name)
    if size or as_json:
        records = [_sized(registry, record) if size else record for record in _records(registry, name, kinds)]
        if records and as_json:
            block(json.dumps(records, indent=1))
            return
        if as_json:
            _refuse_tables(name)
    parts = list(_descriptions(registry, name, kinds))
    if size and parts:
        parts += [
            f"{item['kind']} '{item['name']}': {item['parameters']:,} parameters, output width "
            f"{item['output_dim']:,}"
            for item in records
            if "parameters" in item
        ]
    if not parts:
        known = [known for kind in Kind for known in registry.names(kind)]
        known += [*registry.catalogue.recipes, *ENGINE_TABLES, REFERENCE]
        raise UnknownComponentError(f"unknown name '{name}'", *did_you_mean(name, known), "see: esmgn list")
    block("\n\n".join(parts))


def _refuse_tables(name: str) -> None:
    """Raise an error for what has no record, such as tables of the engine."""
    from esmgn_core.host.configure import ENGINE_TABLES, REFERENCE

    if name in (*ENGINE_TABLES, REFERENCE) or COMBINE in name:
        raise SettingsError(
            f"--json shows components, presets and recipes, not '{name}'", f"without it: esmgn show {name}"
        )


def _records(registry: Registry, name: str, kinds: Sequence[str]) -> Iterator[Record]:
    """Records of the components, presets and recipes with this name."""
    for kind in kinds:
        if kind == RECIPE:
            if recipe := registry.entry("recipes", name):
                yield recipe_record(registry, recipe)
            continue
        if preset := registry.entry("presets", (Kind(kind), name)):
            yield _with_settings(registry, preset_record(registry, preset))
        for spec, plugin in registry.components(Kind(kind)):
            if name in (spec.name, plugin.owner.address(spec.name)):
                yield _with_settings(registry, component_record(spec, plugin))


def _with_settings(registry: Registry, record: Record) -> Record:
    """The record with all settings, and the state of published weights on this machine."""
    from esmgn_core.settings import settings_class

    spec = registry.component(Kind(record["kind"]), record.get("component") or record["name"])
    if spec.kind is Kind.FORMAT or spec.install_command:
        return record
    model = settings_class(spec, registry.load(spec))
    values = model.model_validate(record.get("settings", {})).model_dump(mode="json")
    settings = {
        name: {"value": values[name], "description": " ".join((field.description or "").split())}
        for name, field in model.model_fields.items()
        if name != "checkpoint"
    }
    record = {**record, "settings": settings}
    if "weights" in record:
        from esmgn_core.weights import Checkpoint, locate

        path = locate(Checkpoint.model_validate(record["weights"]))
        found = {"path": str(path), "bytes": path.stat().st_size} if path else {"path": None, "bytes": None}
        record["weights"] = {**record["weights"], **found}
    return record


def _sized(registry: Registry, record: Record) -> Record:
    """The record of an encoder or fuser with its number of parameters and output width."""
    if record["kind"] not in (Kind.SEQ, Kind.STRUCT, Kind.FUSE) or record.get("needs"):
        return record
    from esmgn_core.model.sizes import size_of

    spec = registry.component(Kind(record["kind"]), record.get("component") or record["name"])
    values = {name: setting["value"] for name, setting in record["settings"].items()}
    return {**record, **size_of(spec, registry.load(spec), values)._asdict()}


def _descriptions(registry: Registry, name: str, kinds: Sequence[str]) -> Iterator[str]:
    from esmgn_cli.settings_text import settings_text
    from esmgn_core.host.configure import ENGINE_TABLES, REFERENCE

    for kind in (Kind(kind) for kind in kinds if kind != RECIPE):
        if preset := registry.entry("presets", (kind, name)):
            yield _preset(registry, preset)
        for spec, plugin in registry.components(kind):
            if name in (spec.name, plugin.owner.address(spec.name)):
                yield _component(registry, spec)
    if COMBINE in name:
        yield _component(registry, registry.component(Kind.PRETEXT, name, where="esmgn show"))
    if RECIPE in kinds and (recipe := registry.entry("recipes", name)):
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
        facts = {
            "licence": plugin.license_of(spec),
            "cite": spec.citation,
            "reads": ", ".join(spec.reads),
            "default graph": spec.graph,
        }
        stated = "; ".join(f"{name} {text}" for name, text in facts.items() if text)
        origin += f"\n{stated}" if stated else ""
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
