"""Record the environment and data of a run, and compare them when it is resumed."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from esmgn_core.batch import Protein
from esmgn_core.engine.distributed import World
from esmgn_core.host.compare import compare_settings, format_differences
from esmgn_core.host.registry import Registry
from esmgn_core.host.sources import record_sources
from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.parse import read_record
from esmgn_core.model.compose import Blueprint
from esmgn_core.printable import counted
from esmgn_core.protocols import LabeledDataset, PassesOver, ProteinDataset, lengths_of, refused_by
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentTable, RunConfig
from esmgn_core.spec import Kind
from esmgn_core.version import __version__

_SAMPLED = 64
"""Number of proteins that are read for the fingerprint, spread over the dataset."""
_RECORDED_PACKAGES = ("torch", "numpy", "gemmi", "pydantic", "pluggy", "safetensors")
_DIGITS = 16
_COUNTS = {"num_proteins": "proteins", "num_train": "training proteins", "num_valid": "validation proteins"}
_CONTENTS = {
    "splits": "other proteins are in the training or validation set",
    "lengths": "the lengths of the proteins differ",
    "names": "the names of the proteins differ",
    "content": "sequences or coordinates of the proteins differ",
    "labels": "the labels differ",
}

Tables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Configuration, environment and data of a run at one start.

    Attributes:
        blueprint: the run's components.
        dataset: all proteins.
        config: the complete configuration, with the checksum of the loaded weights.
        sources: package, version and digest of each component.
        environment: program, data, versions and device, as plain values for ``environment.json``.
    """

    blueprint: Blueprint
    dataset: ProteinDataset
    config: RunConfig
    sources: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        blueprint: Blueprint,
        registry: Registry,
        dataset: ProteinDataset,
        world: World,
        weights_sha256: str | None,
    ) -> Self:
        """The record of this start."""
        config, device = _with_checksum(blueprint.resolved(), weights_sha256), world.device
        environment = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "esmgn": __version__,
            "git": _git_state(Path(__file__).parent),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in _RECORDED_PACKAGES},
            "plugins": [
                {"name": p.name, "distribution": p.distribution, "version": p.version, "problem": p.problem}
                for p in registry.plugins
            ],
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "num_processes": world.size,
            "sequence_weights_sha256": weights_sha256,
            "data": data_fingerprint(dataset),
            "settings": config.model_dump(mode="json", exclude_none=True),
            "num_threads": torch.get_num_threads(),
        }
        sources = record_sources(registry, [spec for spec, _, _ in blueprint.parts.values()])
        return cls(blueprint, dataset, config, sources, environment)

    def write(self, run: RunFolder, started_from: dict[str, str] | None) -> None:
        """Write configuration, environment, labels and refused files, and log the size of the data.

        Args:
            run: the run folder.
            started_from: folder and checksum of the encoder from which the run started.
        """
        environment = {**self.environment, "started_from": started_from}
        write_atomically(run.environment, json.dumps(environment, indent=2) + "\n")
        run.write_config(self.config, started_from, self.sources)
        refused = refused_by(self.dataset)
        run.write_refused(refused)
        if isinstance(self.dataset, LabeledDataset) and self.blueprint.is_downstream:
            run.write_labels(self.blueprint.parts[Kind.DOWNSTREAM][0].name, self.dataset.label_names)
        data = self.environment["data"]
        training = counted(data["num_train"], "training protein")
        validation = counted(data["num_valid"], "validation protein")
        run.log(f"{training}, {validation}, {counted(len(refused), 'file')} refused")
        if isinstance(self.dataset, PassesOver) and self.dataset.passed_over:
            run.log(self.dataset.passed_over)


def _with_checksum(config: RunConfig, sha256: str | None) -> RunConfig:
    """The configuration with the checksum of the loaded weights."""
    checkpoint = config.seq.settings.get("checkpoint") if config.seq else None
    if not config.seq or not checkpoint or not sha256:
        return config
    table = {**config.seq.model_dump(), "checkpoint": {**checkpoint, "sha256": sha256}}
    return config.model_copy(update={"seq": ComponentTable(**table)})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state(folder: Path) -> str | None:
    """Commit of the checkout, with ``-dirty`` if it was edited; ``None`` without a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def data_fingerprint(dataset: ProteinDataset) -> dict[str, Any]:
    """Counts and checksums of a dataset, as plain values.

    Splits, lengths and labels are complete. Names, sequences and coordinates are those of up to
    64 proteins.
    """
    splits = [np.asarray(dataset.split(name), dtype=np.int64) for name in ("train", "valid")]
    number = len(dataset)
    rows = np.unique(np.linspace(0, number - 1, min(number, _SAMPLED)).astype(np.int64)).tolist()
    sample = [_read(dataset, row) for row in rows]
    lengths = lengths_of(dataset)
    found = {
        "num_proteins": number,
        "num_train": len(splits[0]),
        "num_valid": len(splits[1]),
        "splits": _digest(part.tobytes() for part in splits),
        "names": _digest(item.name.encode() if item else b"" for item in sample),
        "content": _digest(_content(item) if item else b"" for item in sample),
    }
    if lengths is not None:
        found["lengths"] = _digest([np.asarray(lengths, dtype=np.int64).tobytes()])
    if isinstance(dataset, LabeledDataset):
        labels = dataset.labels(range(0, number, dataset.group_size))
        found["labels"] = _digest([labels.contiguous().numpy().tobytes()])
    return found


def _read(dataset: ProteinDataset, index: int) -> Protein | None:
    try:
        return dataset[index]
    except Exception:  # noqa: BLE001 - the reader reports unreadable proteins later
        return None


def _content(protein: Protein) -> bytes:
    return protein.residue_type.numpy().tobytes() + protein.backbone.contiguous().numpy().tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:_DIGITS]


def changes_since(run: RunFolder, now: Mapping[str, Any]) -> list[str]:
    """Describe the differences from the last start of a run and their effects, one text per kind.

    Args:
        run: the run folder, with the ``environment.json`` of the last start.
        now: the :attr:`RunRecord.environment` of this start.
    """
    before = read_record(run.environment)
    return [
        *_damaged_metrics(run),
        *_unrecorded(run, before),
        *_edited(run, before.get("settings")),
        *_other_data(before.get("data"), now["data"]),
        *_other_programs(before, now),
    ]


def _damaged_metrics(run: RunFolder) -> Iterator[str]:
    if number := run.damaged_metrics():
        yield f"damaged lines of {run.metrics}, left out: {number}"


def _unrecorded(run: RunFolder, before: Mapping[str, Any]) -> Iterator[str]:
    """Report missing records: esmgn 0.1.0 did not record data and settings, and files can be lost."""
    missing = [name for name in ("data", "settings") if not isinstance(before.get(name), dict)]
    if missing:
        yield (
            f"not checked: whether the {' and the '.join(missing)} changed since the run started; "
            f"{run.environment} does not record them (esmgn 0.1.0 did not)"
        )


def _edited(run: RunFolder, recorded: object) -> Iterator[str]:
    if not isinstance(recorded, dict):
        return
    tables, problem = run.recorded_tables()
    if not problem and (differences := compare_settings(recorded, tables)):
        yield (
            f"{run.config} was edited since the run started: {format_differences(differences)}; "
            "the run goes on with the edited settings, so its steps have different configurations"
        )


def _other_data(before: object, now: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(before, dict):
        return
    differences = [
        f"{before[name]} {what} then, {now[name]} now"
        for name, what in _COUNTS.items()
        if name in before and before[name] != now[name]
    ]
    if not differences:
        differences = [
            what for name, what in _CONTENTS.items() if before.get(name, now.get(name)) != now.get(name)
        ]
    if differences:
        yield (
            f"the data changed since the run started: {', '.join(differences)}; steps from here on use "
            "other proteins than without the interruption, and earlier values are not comparable"
        )


def _other_programs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    then, current = _programs(before), _programs(now)
    differences = [
        (name, then[name], value)
        for name, value in current.items()
        if then.get(name) is not None and then[name] != value
    ]
    if differences:
        yield (
            f"the run goes on in another environment: {format_differences(differences)}; "
            "results agree with an uninterrupted run to rounding, not bit for bit"
        )


def _programs(record: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, device and number of processes in a record, which may be damaged."""
    packages = record.get("packages")
    return {
        "esmgn": record.get("esmgn"),
        **(packages if isinstance(packages, dict) else {}),
        "device": record.get("device"),
        "processes": record.get("num_processes"),
    }
