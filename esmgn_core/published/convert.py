"""Published files into folders that a run can start from, and such folders into published files."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
import torch
from torch import Tensor

from esmgn_core.configure import component_settings, configure
from esmgn_core.engine.encoder_folder import EncoderFolder
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import WeightsError
from esmgn_core.machine.files import write_errors, written_atomically
from esmgn_core.model_tensors import load_weights, write_tensors
from esmgn_core.published.entries import MAPPING, SEQUENCE, Layout, Model
from esmgn_core.published.naming import published_name, to_ours, to_published
from esmgn_core.published.read import Content, check, read_published
from esmgn_core.published.settings import run_tables
from esmgn_core.published.sizes import model_of
from esmgn_core.registry import Registry
from esmgn_core.spec import Kind
from esmgn_core.weights import Checkpoint, locate, remembered_digests

EXTRAS = "extras.safetensors"
"""What a published file holds besides an encoder, kept for writing it again."""


def import_file(registry: Registry, file: Path, folder: Path, layout: Layout | None = None) -> Content:
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
    content = read_published(file, layout)
    target = RunFolder(folder.expanduser().absolute())
    text = _run_file(registry, content.model, file, target)
    tensors, extras = to_ours(content.model, content.state)
    metadata = {"layout": str(content.model.layout)}
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


def _run_file(registry: Registry, model: Model, file: Path, target: RunFolder) -> str:
    """The complete tables of the encoder, with every setting of its components."""
    given = run_tables(model, weights=target.model)
    config = configure(registry, [given])
    tables: dict[str, Any] = {}
    for kind in map(Kind, given):
        spec, _, settings = component_settings(registry, kind, config)
        values = settings.model_dump(mode="json", exclude_none=True)
        tables[kind] = {"name": given[kind]["name"], "component": spec.name, **values}
    command = f"--init {target.path}" if model.structure else str(target.config)
    return (
        f"# Imported from {file.absolute()}, sha256 {remembered_digests(file).sha256}\n"
        f"# Start a run from these weights: esmgn run {command}\n{tomli_w.dumps(tables)}"
    )


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


class Exported(NamedTuple):
    """What was written: the model, its tensors by name, and where unused heads came from."""

    model: Model
    state: dict[str, Tensor]
    heads_from: Path | None


def export_folder(registry: Registry, folder: Path, file: Path, layout: Layout | None = None) -> Exported:
    """Write the encoder of a run or of imported weights as a file the original loads strictly.

    The heads of ESM-2, which the original holds but never uses, come from the imported file or the
    weights the configuration names; where neither is at hand they are zeros.

    Raises:
        WeightsError: ``file`` exists, or the encoder is none that the layout can hold.
    """
    if file.exists():
        raise WeightsError(f"{file} exists already (--out)", "name another file")
    source = EncoderFolder(folder)
    ours = {name: _own_memory(tensor) for name, tensor in source.tensors(registry).items()}
    layout = layout or _natural_layout(ours)
    ours = {name: tensor for name, tensor in ours.items() if published_name(layout, name)}
    _, _, settings = component_settings(registry, Kind.SEQ, source.run_config(registry))
    renamed = {str(published_name(layout, name)): tensor for name, tensor in ours.items()}
    try:
        model = model_of(layout, renamed, attention_heads=getattr(settings, "attention_heads", None))
    except WeightsError as error:
        raise WeightsError(f"{folder} does not fit the layout {layout}: {error.message}") from None
    extras, heads_from = _extras(model, source.path, settings)
    state = to_published(model, ours, extras)
    check(model, state, folder)
    _save(model, state, file)
    return Exported(model, state, heads_from)


def _own_memory(tensor: Tensor) -> Tensor:
    # torch.save writes the whole memory of which a tensor may be a part.
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _natural_layout(names: Iterable[str]) -> Layout:
    names = list(names)
    if any(name.startswith("sequence.") for name in names):
        alone = all(name.startswith("sequence.") for name in names)
        return Layout.FAIR_ESM if alone else Layout.ESM_GEARNET
    edges = any(name.startswith("structure.edge_layers.") for name in names)
    return Layout.GEARNET_EDGE if edges else Layout.GEARNET


def _extras(model: Model, folder: Path, settings: Any) -> tuple[dict[str, Tensor], Path | None]:
    """What the file needs besides the encoder, by published name, and the file it comes from."""
    if model.sequence is None:
        return {}, None
    weights = getattr(settings, "weights", None)
    named = weights if isinstance(weights, Path) else None
    for path in (folder / EXTRAS, *([named.with_name(EXTRAS)] if named else [])):
        if path.is_file():
            return _renamed(model, load_weights(path)), path
    checkpoint = getattr(settings, "checkpoint", None)
    if named is None and weights == "pretrained" and isinstance(checkpoint, Checkpoint):
        named = locate(checkpoint)
    if named is None or not named.is_file():
        return {}, None
    try:
        published = read_published(named, Layout.FAIR_ESM)
    except WeightsError:
        return {}, None  # a file without heads, such as the model.safetensors of a run
    return _renamed(model, to_ours(published.model, published.state)[1]), named


def _renamed(model: Model, extras: dict[str, Tensor]) -> dict[str, Tensor]:
    """Extras of either layout with ESM-2 under the names of the model's."""
    prefix = SEQUENCE if model.layout is Layout.ESM_GEARNET else ""
    return {
        name if name == MAPPING else prefix + name.removeprefix(SEQUENCE): tensor
        for name, tensor in extras.items()
    }


def _save(model: Model, state: dict[str, Tensor], file: Path) -> None:
    content: dict[str, Any] = state
    if model.layout is Layout.FAIR_ESM and model.sequence:
        names = {"encoder_layers": model.sequence.num_layers, "encoder_embed_dim": model.sequence.embed_dim}
        heads = {"encoder_attention_heads": model.sequence.attention_heads, "token_dropout": True}
        content = {"cfg": {"model": Namespace(**names, **heads)}, "model": _as_fair_esm(state)}
    with written_atomically(file) as temporary:
        torch.save(content, temporary)


def _as_fair_esm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # fair-esm keeps the contact head in a file of its own.
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("contact_head.")}
    return {
        ("encoder." if name.startswith("lm_head.") else "encoder.sentence_encoder.") + name: tensor
        for name, tensor in kept.items()
    }
