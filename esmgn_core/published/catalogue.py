"""Named weights: checkpoints of presets, and published files to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from esmgn_core.errors import UnknownComponentError, WeightsError, did_you_mean
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.presets import Preset, PublishedFile, PublishedLayout
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import cache_dir
from esmgn_core.published.layouts import layout_named
from esmgn_core.settings import validated
from esmgn_core.spec import Kind
from esmgn_core.weights import Checkpoint, RemoteFile, locate

_SEE = "esmgn weights list"


class NamedWeights(NamedTuple):
    """Named weights: the checkpoint of a preset, or a published file to import."""

    name: str
    file: RemoteFile
    preset: Preset | None
    layout: PublishedLayout | None
    """The layout of a file to import; ``None`` for a checkpoint."""

    @property
    def has_checksum(self) -> bool:
        """True if the authors published a checksum."""
        return bool(self.file.md5 or self.file.sha256)


def all_weights(registry: Registry) -> list[NamedWeights]:
    """All named weights, in the order of the registry files.

    Raises:
        SettingsError: an entry of a registry file is invalid.
    """
    presets = [preset for preset in registry.catalogue.presets.values() if "checkpoint" in preset.settings]
    return [
        *map(_of_preset, presets),
        *(_of_file(registry, entry) for entry in registry.catalogue.weights.values()),
    ]


def named_weights(registry: Registry, name: str) -> NamedWeights:
    """The weights with this name.

    Raises:
        UnknownComponentError: the name is unknown.
    """
    known = {weights.name: weights for weights in all_weights(registry)}
    if name not in known and SEPARATOR in name:
        if entry := registry.entry("weights", name):
            return _of_file(registry, entry)
        for preset in (registry.entry("presets", (kind, name)) for kind in Kind):
            if preset and "checkpoint" in preset.settings:
                known[name] = _of_preset(preset)
    if name not in known:
        raise UnknownComponentError(
            f"unknown weights '{name}'",
            *did_you_mean(name, known),
            f"available: {', '.join(known) or 'none'}",
            f"see: {_SEE}",
        )
    return known[name]


def location_text(weights: NamedWeights) -> str:
    """The location of the file on this machine, for users."""
    path = locate(weights.file)
    if path is None:
        return "not here"
    offline = os.environ.get("ESMGN_WEIGHTS_DIR")
    if offline and path.parent == Path(offline).expanduser():
        return "in ESMGN_WEIGHTS_DIR"
    return "in the cache" if path.is_relative_to(cache_dir()) else "in torch hub's cache"


def find_weights(registry: Registry, source: str) -> tuple[Path, NamedWeights | None]:
    """Find a file of weights by path or name, without downloads.

    Raises:
        UnknownComponentError: there is no such file and no such name.
        WeightsError: the file of this name is not on this machine.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path, None
    if path.suffix or len(path.parts) > 1:
        raise WeightsError(f"file not found: {source}", f"or give the name of known weights; see: {_SEE}")
    weights = named_weights(registry, source)
    file = locate(weights.file)
    if file is None:
        raise WeightsError(
            f"{weights.file.filename} is not on this machine", f"download it: esmgn weights fetch {source}"
        )
    return file, weights


def _of_preset(preset: Preset) -> NamedWeights:
    what = f"checkpoint of {preset.kind} '{preset.name}' ({preset.origin})"
    file = validated(Checkpoint, preset.settings["checkpoint"], what=what, see=_SEE)
    return NamedWeights(preset.name, file, preset, None)


def _of_file(registry: Registry, entry: PublishedFile) -> NamedWeights:
    what = f"weights '{entry.name}' ({entry.origin})"
    file = validated(RemoteFile, dict(entry.file), what=what, see=_SEE)
    return NamedWeights(entry.name, file, None, layout_named(registry, entry.layout, what))
