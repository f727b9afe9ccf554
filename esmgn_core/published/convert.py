"""Import of published files into folders, and export of folders to published files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
import torch
from safetensors import safe_open
from torch import Tensor

from esmgn_core.errors import WeightsError
from esmgn_core.host.configure import Tables, component_settings, configure
from esmgn_core.host.presets import PublishedLayout
from esmgn_core.host.registry import Registry
from esmgn_core.host.sources import record_sources
from esmgn_core.machine.files import write_errors, written_atomically
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.tensors import load_weights, write_tensors
from esmgn_core.protocols import PublishedFile
from esmgn_core.published.layouts import (
    MODULES,
    PublishedModel,
    choices,
    encoder_blueprint,
    split_by_component,
)
from esmgn_core.published.read import Content, check, fit_named, read_published
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import PROVIDED_BY
from esmgn_core.spec import Kind
from esmgn_core.weights import Checkpoint, locate, remembered_digests

EXTRAS = "extras.safetensors"
"""File with the tensors of a published file that the encoder does not use, kept for export."""


def import_file(
    registry: Registry, file: Path, folder: Path, layout: PublishedLayout | None = None
) -> Content:
    """Write ``model.safetensors``, ``config.toml`` and ``extras.safetensors`` for a published file.

    Returns:
        The model and the tensors of the file.

    Raises:
        WeightsError: as :func:`esmgn_core.published.read.read_published`.
        RunError: ``folder`` is not empty.
        WriteError: it cannot be written; partial results are removed.
        UnknownComponentError: no plugin provides the model.
    """
    if folder.exists():
        RunFolder.check_empty(folder)
    content = read_published(registry, file, layout)
    target = RunFolder(folder.expanduser().absolute())
    text = _run_file(registry, content.model, file, target)
    tensors, extras = content.model.to_ours(content.state)
    metadata = {"layout": content.model.layout.name}
    fresh = RunFolder(target.path.with_name(f".{target.path.name}.{os.getpid()}"))
    try:
        with write_errors(folder):
            fresh.path.mkdir(parents=True)
            write_tensors(_contiguous(tensors), fresh.model, metadata)
            write_tensors(_contiguous(extras), fresh.path / EXTRAS, metadata)
            fresh.config.write_text(text, encoding="utf-8")
            fresh.path.replace(target.path)
    finally:
        shutil.rmtree(fresh.path, ignore_errors=True)
    return content


def tables_with_weights(model: PublishedModel, weights: Path) -> Tables:
    """The tables of a run file for a model with the weights in a file."""
    settings = model.blueprint.parts[Kind.SEQ][2]
    if Kind.SEQ not in model.layout.parts or "weights" not in type(settings).model_fields:
        return model.tables
    return {**model.tables, Kind.SEQ: {**model.tables[Kind.SEQ], "weights": str(weights)}}


def _run_file(registry: Registry, model: PublishedModel, file: Path, target: RunFolder) -> str:
    """Text of ``config.toml``: the tables of the encoder with all settings of its components."""
    given = tables_with_weights(model, target.model)
    config = configure(registry, [given])
    tables: dict[str, Any] = {}
    specs = []
    for kind in map(Kind, given):
        spec, _, settings = component_settings(registry, kind, config)
        specs.append(spec)
        values = settings.model_dump(mode="json", exclude_none=True)
        tables[kind] = {"name": given[kind]["name"], "component": spec.name, **values}
    tables[PROVIDED_BY] = record_sources(registry, specs)
    command = f"--init {target.path}" if Kind.STRUCT in model.layout.parts else str(target.config)
    return (
        f"# Imported from {file.absolute()}, sha256 {remembered_digests(file).sha256}\n"
        f"# Start a run from these weights: esmgn run {command}\n{tomli_w.dumps(tables)}"
    )


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


class Exported(NamedTuple):
    """An exported file.

    Attributes:
        model: its model.
        state: its tensors by published name.
        has_unused: True if it has tensors that our encoder does not use, such as heads.
        unused_from: the file with these tensors; ``None`` if they are zeros.
    """

    model: PublishedModel
    state: dict[str, Tensor]
    has_unused: bool
    unused_from: Path | None


def export_folder(
    registry: Registry, folder: Path, file: Path, layout: PublishedLayout | None = None
) -> Exported:
    """Export the encoder of a run or of imported weights to a file that the original loads strictly.

    Tensors that our encoder does not use, such as heads, are copied from the imported file or from the
    weights in the configuration. Without these files they are zeros.

    Raises:
        WeightsError: ``file`` exists, or the layout does not match the encoder.
    """
    if file.exists():
        raise WeightsError(f"{file} already exists (--out)", "name another file")
    source = EncoderFolder(folder)
    ours = {name: _own_storage(tensor) for name, tensor in source.tensors(registry).items()}
    blueprint = encoder_blueprint(registry, source.run_config(registry))
    layout = _layout(registry, layout, blueprint, ours, folder)
    trained = PublishedModel.build(layout, source.tables(), blueprint)
    unused, unused_from = _unused(registry, blueprint, source.path)
    state = trained.to_published(ours, unused)
    # The encoder may differ from the layout in the sizes of its tensors only.
    model, _ = fit_named(registry, folder, layout, state)
    check(model, state, folder)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(layout.optional)}
    _save(trained, state, file)
    num_own = sum(name.startswith(tuple(f"{MODULES[kind]}." for kind in layout.parts)) for name in ours)
    has_unused = len(state) > num_own + len(layout.constants)
    return Exported(model, state, has_unused, unused_from if has_unused else None)


def _own_storage(tensor: Tensor) -> Tensor:
    # torch.save writes the whole storage, of which a tensor may be a small view.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _layout(
    registry: Registry,
    given: PublishedLayout | None,
    blueprint: Blueprint,
    ours: Mapping[str, Tensor],
    folder: Path,
) -> PublishedLayout:
    """The given layout, else the matching layout with the fewest components."""
    kinds = {kind for kind, name in MODULES.items() if any(own.startswith(f"{name}.") for own in ours)}
    known = registry.catalogue.layouts
    whole = [layout for layout in known.values() if kinds <= layout.parts.keys()]
    for layout in [given] if given else sorted(whole, key=lambda layout: len(layout.parts)):
        if _matches(registry, layout, blueprint):
            return layout
    parts = ", ".join(f"{kind} {blueprint.parts[kind][0].name}" for kind in MODULES)
    reason = f"the layout {given.name} does not match" if given else "no layout matches"
    raise WeightsError(f"{reason} the encoder in {folder}: {parts}", f"known layouts: {', '.join(known)}")


def _matches(registry: Registry, layout: PublishedLayout, blueprint: Blueprint) -> bool:
    """True if the layout has the components of the encoder."""

    def component(kind: Kind, name: str) -> str:
        preset = registry.entry("presets", (kind, name))
        return preset.component if preset else name

    return any(
        all(component(kind, tables[kind]["name"]) == blueprint.parts[kind][0].name for kind in layout.parts)
        for tables in choices(layout)
    )


def _unused(
    registry: Registry, blueprint: Blueprint, folder: Path
) -> tuple[dict[Kind, dict[str, Tensor]], Path | None]:
    """Published tensors that the encoder does not use, by kind, and their file."""
    settings: Any = blueprint.parts[Kind.SEQ][2]
    weights = getattr(settings, "weights", None)
    named = weights if isinstance(weights, Path) else None
    for path in (folder / EXTRAS, *([named.with_name(EXTRAS)] if named else [])):
        if path.is_file():
            with safe_open(path, "pt") as file:
                layout = registry.entry("layouts", (file.metadata() or {}).get("layout", ""))
            return (split_by_component(layout, load_weights(path)), path) if layout else ({}, None)
    checkpoint = getattr(settings, "checkpoint", None)
    if named is None and weights == "pretrained" and isinstance(checkpoint, Checkpoint):
        named = locate(checkpoint)
    if named is None or not named.is_file():
        return {}, None
    try:
        content = read_published(registry, named)
    except WeightsError:
        return {}, None  # not a published file, such as the model.safetensors of a run
    return split_by_component(content.model.layout, content.model.to_ours(content.state)[1]), named


def _save(model: PublishedModel, state: dict[str, Tensor], file: Path) -> None:
    content: dict[str, Any] = state
    if len(model.layout.parts) == 1:
        [module] = (model.modules[kind] for kind in model.layout.parts)
        content = module.pack_published(state) if isinstance(module, PublishedFile) else state
    with written_atomically(file) as temporary:
        torch.save(content, temporary)
