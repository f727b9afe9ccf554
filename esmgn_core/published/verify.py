"""Verification of weights: checksum, layout, recorded outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from esmgn_core.errors import WeightsError
from esmgn_core.host.configure import component_settings, configure
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import cache_dir
from esmgn_core.protocols import Verifiable
from esmgn_core.published.catalogue import NamedWeights, find_weights
from esmgn_core.published.convert import tables_with_weights
from esmgn_core.published.read import read_published
from esmgn_core.weights import remembered_digests


def verify(registry: Registry, source: str, recorded: Path | None = None) -> Iterator[str]:
    """Verify weights step by step. Yield a line for each passed step.

    Args:
        registry: all components.
        source: a name, or the path of a published file.
        recorded: file of recorded outputs; by default ``NAME.golden.safetensors`` in ``ESMGN_WEIGHTS_DIR`` or
            beside the weights.

    Raises:
        WeightsError: a check fails, or a file that it needs is missing.
    """
    if recorded and not recorded.is_file():
        raise WeightsError(f"no such file: {recorded} (--golden)")
    path, weights = find_weights(registry, source)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, expected a file of weights or a name")
    yield f"file      {path}"
    yield _checksum(path, weights)
    content = read_published(registry, path, weights.layout if weights else None)
    model, layout = content.model, content.model.layout
    tensors = f"{len(content.state)} tensors, {content.num_parameters:,} parameters"
    yield f"layout    {layout.name}: {tensors}, no tensor is missing, unexpected or of another shape"
    kind, tables = next(iter(layout.parts)), tables_with_weights(model, path)
    if weights and weights.preset:
        kind, tables = weights.preset.kind, {weights.preset.kind: {"name": weights.name}}
    _, component, settings = component_settings(registry, kind, configure(registry, [tables]))
    if len(layout.parts) > 1 or not isinstance(component, Verifiable):
        if recorded:
            raise WeightsError(
                f"files of the layout {layout.name} cannot be compared with recorded outputs (--golden)"
            )
        yield "outputs   not compared: there are no recorded outputs for this layout"
        return
    golden = recorded or _recording(source, path)
    result = component.verify(settings, golden)
    if not result.passed:
        raise WeightsError(f"{path} does not reproduce the outputs recorded in {golden}", result.text)
    yield f"outputs   match {golden}: {result.text}"


def _checksum(path: Path, weights: NamedWeights | None) -> str:
    digests = remembered_digests(path)
    if weights is None:
        return f"checksum  sha256 {digests.sha256}; not compared: give a name instead of a path"
    if not weights.has_checksum:
        return f"checksum  sha256 {digests.sha256}; not compared: no checksum is published"
    difference = weights.file.mismatch(digests)
    if difference:
        raise WeightsError(f"{path} is not the published file: {difference}")
    return f"checksum  matches the published {'sha256' if weights.file.sha256 else 'md5'}"


def _recording(source: str, path: Path) -> Path:
    name = f"{Path(source).stem}.golden.safetensors"
    folders = [path.parent, cache_dir() / "weights"]
    if offline := os.environ.get("ESMGN_WEIGHTS_DIR"):
        folders.insert(0, Path(offline).expanduser())
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"no recorded outputs of {source} on this machine",
        f"its file is complete: {path}",
        f"give the file: esmgn weights verify {source} --golden FILE.safetensors",
        f"or put the file at: {folders[0] / name}",
    )
