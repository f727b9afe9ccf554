"""Flags that name the components of a run, and the layers of settings they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.completion import names_of
from esmgn_core.errors import SettingsError
from esmgn_core.host.presets import RECIPE
from esmgn_core.host.registry import Registry
from esmgn_core.spec import Kind

if TYPE_CHECKING:
    from esmgn_core.host.configure import Tables
    from esmgn_core.settings import RunConfig

_SAMPLE = "sample"

Config = Annotated[Path | None, typer.Argument(help="Run file, such as RUN/config.toml.", show_default=False)]
Seq = Annotated[
    str | None,
    typer.Option(
        help="Sequence encoder, such as esm2_650m.", show_default=False, autocompletion=names_of(Kind.SEQ)
    ),
]
Struct = Annotated[
    str | None,
    typer.Option(
        help="Structure encoder, such as gearnet.", show_default=False, autocompletion=names_of(Kind.STRUCT)
    ),
]
Fuse = Annotated[
    str | None,
    typer.Option(help="Fuser, such as serial.", show_default=False, autocompletion=names_of(Kind.FUSE)),
]
Graph = Annotated[
    str | None,
    typer.Option(
        help="Graph builder, such as relational.", show_default=False, autocompletion=names_of(Kind.GRAPH)
    ),
]
Pretext = Annotated[
    str | None,
    typer.Option(
        help="Pretext task, such as residue_type.", show_default=False, autocompletion=names_of(Kind.PRETEXT)
    ),
]
Downstream = Annotated[
    str | None,
    typer.Option(
        help="Downstream task, such as multilabel.",
        show_default=False,
        autocompletion=names_of(Kind.DOWNSTREAM),
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Dataset, or a folder or file of structures.",
        show_default=False,
        autocompletion=names_of(Kind.DATA),
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        help="Recipe: a complete run to start from.", show_default=False, autocompletion=names_of(RECIPE)
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Any setting, such as train.epochs=5. Repeatable."),
]
Init = Annotated[
    Path | None,
    typer.Option(
        help="Start from the encoder in this folder (a run or imported weights).",
        show_default=False,
    ),
]
Gpus = Annotated[
    int | None, typer.Option(min=1, help="Train on this many GPUs of this machine.", show_default=False)
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Train as this many processes on the CPU.", show_default=False)
]


def compose_run(
    registry: Registry,
    *,
    changes: Tables,
    init: Path | None,
    recipe: str | None,
    config: Path | None,
    names: dict[str, str | None],
) -> tuple[RunConfig, SettingsError | None]:
    """Compose the configuration of a run from its flags.

    Args:
        registry: all components.
        changes: from ``--set``.
        init: folder of the encoder that the run starts from.
        recipe: name of a recipe.
        config: run file.
        names: component of each kind; for the dataset, a name or a path.

    Returns:
        The configuration, and an error if a recipe would train on made-up proteins because no data are
        named.
    """
    from esmgn_core.host.configure import check_tables, configure, data_tables, read_run_file

    layers: dict[str, Tables] = {}
    if init is not None:
        from esmgn_core.host.sources import source_changes
        from esmgn_core.model.encoder_folder import ENCODER_KINDS, EncoderFolder

        encoder = EncoderFolder(init)
        # Before names are resolved, because this error names the missing package.
        source_changes(registry, encoder.run, ENCODER_KINDS)
        layers[f"--init {init}"] = encoder.tables()
    if recipe is not None:
        chosen = registry.recipe(recipe)
        origin = f"recipe '{recipe}' in {chosen.origin}"
        layers[origin] = check_tables(chosen.run, origin=origin)
    if config is not None:
        if str(config) in registry.catalogue.recipes and not config.exists():
            raise SettingsError(f"run file not found: {config}", f"did you mean: --recipe {config}?")
        layers[str(config)] = read_run_file(config)
    # The fuser first: flags of encoders that it does not read are refused, and lower layers' names dropped.
    for kind, name in sorted(names.items(), key=lambda item: item[0] != Kind.FUSE):
        if name is not None:
            tables = data_tables(registry, name) if kind == Kind.DATA else {kind: {"name": name}}
            layers[f"--{kind}"] = tables
    layers["--set"] = changes
    composed = configure(registry, list(layers.values()), list(layers))
    names_data = any("name" in layer.get("data", {}) for layer in layers.values())
    if recipe is None or names_data or composed.data.name != _SAMPLE:
        return composed, None
    return composed, SettingsError(
        f"recipe '{recipe}' names no data",
        f"name a folder of structures: esmgn run --recipe {recipe} --data FOLDER_OF_STRUCTURES",
        f"or try it on made-up proteins: esmgn run --recipe {recipe} --data {_SAMPLE}",
    )


def made_up(chosen: str) -> str:
    """Warning for the dataset of made-up proteins; empty for any other dataset."""
    if chosen != _SAMPLE:
        return ""
    return (
        f"made-up proteins ('{_SAMPLE}'): the results mean nothing for real ones; name yours: --data FOLDER"
    )
