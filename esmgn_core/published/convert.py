"""Published files into folders that a run can start from, and such folders into published files."""

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
from esmgn_core.machine.files import write_errors, written_atomically
from esmgn_core.model.compose import Blueprint
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.tensors import load_weights, write_tensors
from esmgn_core.protocols import PublishedFile
from esmgn_core.published.layouts import MODULES, PublishedModel, choices, encoder_blueprint, split
from esmgn_core.published.read import Content, check, fit_named, read_published
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind
from esmgn_core.weights import Checkpoint, locate, remembered_digests

EXTRAS = "extras.safetensors"
"""What a published file holds besides an encoder, kept for writing it again."""


def import_file(
    registry: Registry, file: Path, folder: Path, layout: PublishedLayout | None = None
) -> Content:
    """Write ``model.safetensors``, ``config.toml`` and ``extras.safetensors`` for a published file.

    Returns:
        What the file holds.

    Raises:
        WeightsError: as :func:`esmgn_core.published.read.read_published`.
        RunError: ``folder`` holds something.
        WriteError: it cannot be written; nothing is left of it.
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
    """The tables of a run file that give a model with the weights of a file."""
    settings = model.blueprint.parts[Kind.SEQ][2]
    if Kind.SEQ not in model.layout.parts or "weights" not in type(settings).model_fields:
        return model.tables
    return {**model.tables, Kind.SEQ: {**model.tables[Kind.SEQ], "weights": str(weights)}}


def _run_file(registry: Registry, model: PublishedModel, file: Path, target: RunFolder) -> str:
    """The complete tables of the encoder, with every setting of its components."""
    given = tables_with_weights(model, target.model)
    config = configure(registry, [given])
    tables: dict[str, Any] = {}
    for kind in map(Kind, given):
        spec, _, settings = component_settings(registry, kind, config)
        values = settings.model_dump(mode="json", exclude_none=True)
        tables[kind] = {"name": given[kind]["name"], "component": spec.name, **values}
    command = f"--init {target.path}" if Kind.STRUCT in model.layout.parts else str(target.config)
    return (
        f"# Imported from {file.absolute()}, sha256 {remembered_digests(file).sha256}\n"
        f"# Start a run from these weights: esmgn run {command}\n{tomli_w.dumps(tables)}"
    )


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        model: its model.
        state: its tensors by published name.
        has_unused: True if it holds tensors that our encoder does not use, such as heads.
        unused_from: the file they come from; ``None`` if they are zeros.
    """

    model: PublishedModel
    state: dict[str, Tensor]
    has_unused: bool
    unused_from: Path | None


def export_folder(
    registry: Registry, folder: Path, file: Path, layout: PublishedLayout | None = None
) -> Exported:
    """Write the encoder of a run or of imported weights as a file the original loads strictly.

    Tensors that the original holds and our encoder does not use, such as heads, come from the imported file
    or from the weights that the configuration names. Without these files they are zeros.

    Raises:
        WeightsError: ``file`` exists, or the layout cannot hold the encoder.
    """
    if file.exists():
        raise WeightsError(f"{file} exists already (--out)", "name another file")
    source = EncoderFolder(folder)
    ours = {name: _own_memory(tensor) for name, tensor in source.tensors(registry).items()}
    blueprint = encoder_blueprint(registry, source.run_config(registry))
    layout = _layout(registry, layout, blueprint, ours, folder)
    trained = PublishedModel.built(layout, source.tables(), blueprint)
    unused, unused_from = _unused(registry, blueprint, source.path)
    state = trained.to_published(ours, unused)
    # The sizes in the file must be all that distinguishes the encoder from the layout's.
    model, _ = fit_named(registry, folder, layout, state)
    check(model, state, folder)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(layout.optional)}
    _save(trained, state, file)
    num_own = sum(name.startswith(tuple(f"{MODULES[kind]}." for kind in layout.parts)) for name in ours)
    has_unused = len(state) > num_own + len(layout.constants)
    return Exported(model, state, has_unused, unused_from if has_unused else None)


def _own_memory(tensor: Tensor) -> Tensor:
    # torch.save writes the whole memory of which a tensor may be a part.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _layout(
    registry: Registry,
    given: PublishedLayout | None,
    blueprint: Blueprint,
    ours: Mapping[str, Tensor],
    folder: Path,
) -> PublishedLayout:
    """The given layout, else the one of fewest components that holds the encoder."""
    kinds = {kind for kind, name in MODULES.items() if any(own.startswith(f"{name}.") for own in ours)}
    known = registry.catalogue.layouts
    whole = [layout for layout in known.values() if kinds <= layout.parts.keys()]
    for layout in [given] if given else sorted(whole, key=lambda layout: len(layout.parts)):
        if _has_components(registry, layout, blueprint):
            return layout
    parts = ", ".join(f"{kind} {blueprint.parts[kind][0].name}" for kind in MODULES)
    what = f"the layout {given.name} does not hold" if given else "no layout holds"
    raise WeightsError(f"{what} the encoder in {folder}: {parts}", f"known layouts: {', '.join(known)}")


def _has_components(registry: Registry, layout: PublishedLayout, blueprint: Blueprint) -> bool:
    """True if a layout holds the components of an encoder."""

    def component(kind: Kind, name: str) -> str:
        preset = registry.catalogue.presets.get((kind, name))
        return preset.component if preset else name

    return any(
        all(component(kind, tables[kind]["name"]) == blueprint.parts[kind][0].name for kind in layout.parts)
        for tables in choices(layout)
    )


def _unused(
    registry: Registry, blueprint: Blueprint, folder: Path
) -> tuple[dict[Kind, dict[str, Tensor]], Path | None]:
    """Tensors that a file needs besides those of the encoder, by kind, and the file they come from."""
    settings: Any = blueprint.parts[Kind.SEQ][2]
    weights = getattr(settings, "weights", None)
    named = weights if isinstance(weights, Path) else None
    for path in (folder / EXTRAS, *([named.with_name(EXTRAS)] if named else [])):
        if path.is_file():
            with safe_open(path, "pt") as file:
                layout = registry.catalogue.layouts.get((file.metadata() or {}).get("layout", ""))
            return (split(layout, load_weights(path)), path) if layout else ({}, None)
    checkpoint = getattr(settings, "checkpoint", None)
    if named is None and weights == "pretrained" and isinstance(checkpoint, Checkpoint):
        named = locate(checkpoint)
    if named is None or not named.is_file():
        return {}, None
    try:
        content = read_published(registry, named)
    except WeightsError:
        return {}, None  # a file without heads, such as the model.safetensors of a run
    return split(content.model.layout, content.model.to_ours(content.state)[1]), named


def _save(model: PublishedModel, state: dict[str, Tensor], file: Path) -> None:
    content: dict[str, Any] = state
    if len(model.layout.parts) == 1:
        [module] = (model.modules[kind] for kind in model.layout.parts)
        content = module.pack_published(state) if isinstance(module, PublishedFile) else state
    with written_atomically(file) as temporary:
        torch.save(content, temporary)
