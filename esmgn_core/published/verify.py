"""Checks of a file of weights: checksum, layout, recorded outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from esmgn_core.errors import WeightsError
from esmgn_core.host.configure import component_settings, configure
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import cache_dir
from esmgn_core.protocols import Verifiable
from esmgn_core.published.catalogue import NamedWeights, located
from esmgn_core.published.convert import tables_with_weights
from esmgn_core.published.read import read_published
from esmgn_core.weights import remembered_digests


def verify(registry: Registry, source: str, recorded: Path | None = None) -> Iterator[str]:
    """Check weights, step by step; yields a line for each step that passed.

    Args:
        registry: all components.
        source: a name, or the path of a published file.
        recorded: file of recorded outputs; looked for as ``NAME.golden.safetensors`` in
            ``ESMGN_WEIGHTS_DIR`` and beside the weights if not given.

    Raises:
        WeightsError: a check failed, or something that it needs is not at hand.
    """
    if recorded and not recorded.is_file():
        raise WeightsError(f"no such file: {recorded} (--golden)")
    path, weights = located(registry, source)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, expected a file of weights or a name")
    yield f"file      {path}"
    yield _checksum(path, weights)
    content = read_published(registry, path, weights.layout if weights else None)
    model, layout = content.model, content.model.layout
    tensors = f"{len(content.state)} tensors, {content.num_parameters:,} parameters"
    yield f"layout    {layout.name}: {tensors}, nothing missing, unexpected or of another shape"
    kind, tables = next(iter(layout.parts)), tables_with_weights(model, path)
    if weights and weights.preset:
        kind, tables = weights.preset.kind, {weights.preset.kind: {"name": weights.name}}
    _, component, settings = component_settings(registry, kind, configure(registry, [tables]))
    if len(layout.parts) > 1 or not isinstance(component, Verifiable):
        if recorded:
            raise WeightsError(f"no component compares files of the layout {layout.name} with recordings")
        yield "outputs   not compared: there are no recorded outputs for this layout"
        return
    golden = recorded or _recording(source, path)
    result = component.verify(settings, golden)
    if not result.passed:
        raise WeightsError(f"{path} does not give the outputs recorded in {golden}", result.text)
    yield f"outputs   as recorded in {golden}: {result.text}"


def _checksum(path: Path, weights: NamedWeights | None) -> str:
    digests = remembered_digests(path)
    if weights is None:
        return f"checksum  sha256 {digests.sha256}; to compare it, give a name instead of a path"
    if not weights.has_checksum:
        return f"checksum  sha256 {digests.sha256}; none is published to compare it with"
    difference = weights.file.mismatch(digests)
    if difference:
        raise WeightsError(f"{path} is not the published file: {difference}")
    return f"checksum  as published, {'sha256' if weights.file.sha256 else 'md5'}"


def _recording(source: str, path: Path) -> Path:
    name = f"{Path(source).stem}.golden.safetensors"
    folders = [path.parent, cache_dir() / "weights"]
    if offline := os.environ.get("ESMGN_WEIGHTS_DIR"):
        folders.insert(0, Path(offline).expanduser())
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"no recorded outputs of {source} at hand",
        f"its file is complete: {path}",
        f"name the recording: esmgn weights verify {source} --golden FILE.safetensors",
        f"or put it at: {folders[0] / name}",
    )
