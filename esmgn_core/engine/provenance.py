"""What a run depends on besides its code: recorded when it starts, compared when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from esmgn_core.batch import Protein
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import shown
from esmgn_core.parse import parse_toml
from esmgn_core.protocols import LabelledDataset, ProteinDataset

_SAMPLED = 64
"""Proteins that are read for the fingerprint, spread over the dataset."""
_SHOWN = 6
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


def data_fingerprint(dataset: ProteinDataset) -> dict[str, Any]:
    """Counts and checksums of a dataset, as plain values.

    Splits, lengths and labels are complete; names, sequences and coordinates are those of up to 64 proteins,
    all of a smaller dataset.
    """
    splits = [np.asarray(dataset.split(name), dtype=np.int64) for name in ("train", "valid")]
    number = len(dataset)
    rows = np.unique(np.linspace(0, number - 1, min(number, _SAMPLED)).astype(np.int64)).tolist()
    sample = [_read(dataset, row) for row in rows]
    lengths = getattr(dataset, "lengths", None)
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
    if isinstance(dataset, LabelledDataset):
        labels = dataset.labels(range(0, number, dataset.group_size))
        found["labels"] = _digest([labels.contiguous().numpy().tobytes()])
    return found


def _read(dataset: ProteinDataset, index: int) -> Protein | None:
    try:
        return dataset[index]
    except Exception:  # noqa: BLE001 - the reader reports what a dataset cannot give
        return None


def _content(protein: Protein) -> bytes:
    return protein.residue_type.numpy().tobytes() + protein.backbone.contiguous().numpy().tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:_DIGITS]


def changes_since(run: RunFolder, now: Mapping[str, Any]) -> list[str]:
    """What differs from the last start of a run, and what it means; one sentence or two for each kind.

    Args:
        run: the folder, whose ``environment.json`` is the one of the last start.
        now: what ``environment.json`` will hold: ``data``, ``packages``, ``plugins``, ``device``,
            ``num_processes``.
    """
    return [*_unrecorded(run), *_edited(run), *_other_data(run, now["data"]), *_other_programs(run, now)]


def _unrecorded(run: RunFolder) -> Iterator[str]:
    """What cannot be compared: esmgn 0.1.0 recorded no data and settings, and records can be lost."""
    missing = [name for name in ("data", "settings") if not isinstance(run.recorded(name), dict)]
    if missing:
        yield (
            f"not checked: whether the {' and the '.join(missing)} changed since the run started; "
            f"{run.environment} does not record them (esmgn 0.1.0 did not)"
        )


def _edited(run: RunFolder) -> Iterator[str]:
    recorded = run.recorded("settings")
    if not isinstance(recorded, dict):
        return
    try:
        there = parse_toml(run.config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if differences := _compared(recorded, there):
        yield (
            f"{run.config} was edited since the run started: {_listed(differences)}; "
            "the run goes on with the edited settings and is no longer one run of one configuration"
        )


def _other_data(run: RunFolder, now: Mapping[str, Any]) -> Iterator[str]:
    before = run.recorded("data")
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
            f"the data changed since the run started: {', '.join(differences)}; steps from here on take "
            "other proteins than without the interruption, and earlier values are not comparable"
        )


def _other_programs(run: RunFolder, now: Mapping[str, Any]) -> Iterator[str]:
    before = {**_versions(run.recorded("packages")), **_versions(run.recorded("plugins"))}
    current = {**_versions(now["packages"]), **_versions(now["plugins"])}
    for name in ("device", "num_processes"):
        before[name.replace("num_", "")] = run.recorded(name)
        current[name.replace("num_", "")] = now[name]
    differences = [
        (name, before[name], current[name])
        for name in current
        if before.get(name) is not None and before[name] != current[name]
    ]
    if differences:
        yield (
            f"the run goes on under another environment: {_listed(differences)}; "
            "results agree with an uninterrupted run to rounding, not bit for bit"
        )


def _versions(record: Any) -> dict[str, Any]:
    """Versions by name of the packages or plugins in a record, whatever is in it."""
    if isinstance(record, dict):
        return dict(record)
    if not isinstance(record, list):
        return {}
    plugins = [item for item in record if isinstance(item, dict) and {"name", "version"} <= item.keys()]
    return {f"plugin {item['name']}": item["version"] for item in plugins}


def encoder_changes(trained: Tables, now: Tables) -> str:
    """Settings that an encoder was trained with and that differ now; empty if there are none.

    Args:
        trained: tables of the folder the encoder comes from.
        now: tables of the run that starts from it.
    """
    given = {name: now[name] for name in trained if name in now}
    differences = [item for item in _compared(trained, given) if item[0].split(".")[1] not in _OF_WEIGHTS]
    return _listed(differences) if differences else ""


_OF_WEIGHTS = {"name", "weights", "checkpoint", "trainable", "dropout", "gradient_checkpointing"}
"""Settings that say where weights come from or how they are trained, not what an encoder computes."""


def _compared(one: Tables, other: Tables) -> list[tuple[str, Any, Any]]:
    first, second = dict(flat(one)), dict(flat(other))
    names = [*first, *(name for name in second if name not in first)]
    return [
        (name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    ]


def flat(tables: Tables, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as ``table.key`` with their values."""
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _listed(differences: list[tuple[str, Any, Any]]) -> str:
    texts = [f"{name} {_value(one)} -> {_value(other)}" for name, one, other in differences[:_SHOWN]]
    more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return ", ".join([*texts, *more])


def _value(value: object) -> str:
    return "unset" if value is None else value if isinstance(value, str) else shown(value)
