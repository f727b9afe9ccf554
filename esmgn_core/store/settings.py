"""What a store keeps and which files it has, written in ``store.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.errors import DataError
from esmgn_core.io.annotate import ANNOTATIONS
from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.manifest import STORE_MANIFEST
from esmgn_core.machine.parse import parse_json
from esmgn_core.store.contents import Contents
from esmgn_core.store.index import FROM_COPY

FORMAT = "esmgn-store"
VERSION = 1

Atoms = Literal["backbone", "ca"]
Coordinates = Literal["fixed", "float32"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What is kept of each protein, and how.

    Attributes:
        atoms: N, CA, C, O, or CA alone.
        coordinates: 16 bits in steps of 0.001 angstrom, or float32.
        secondary_structure: whether there is a column of states of DSSP.
        exposure: whether there is a column of solvent-accessible surfaces.
    """

    atoms: Atoms = "backbone"
    coordinates: Coordinates = "fixed"
    secondary_structure: bool = False
    exposure: bool = False

    @property
    def annotations(self) -> tuple[str, ...]:
        """Names of the optional columns that there are."""
        return tuple(name for name in ANNOTATIONS if getattr(self, name))

    @property
    def atom_slice(self) -> slice:
        """Which of N, CA, C, O are kept."""
        return slice(CA, CA + 1) if self.atoms == "ca" else slice(len(BACKBONE_ATOMS))

    @property
    def plddt_dtype(self) -> np.dtype[Any]:
        """PLDDT in steps of 0.01 beside backbones, of 0.5 beside CA alone."""
        return np.dtype("u1" if self.atoms == "ca" else "<u2")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``store.json`` records.

    Attributes:
        layout: what is kept of each protein.
        contents: the files of a finished store; ``None`` during the first build, and in stores that esmgn
            0.1.0 wrote.
    """

    layout: Layout
    contents: Contents | None


def write_manifest(path: Path, layout: Layout, contents: Contents | None = None) -> None:
    """Write ``store.json`` into the folder ``path``."""
    files = {} if contents is None else contents.as_dict()
    values = {"format": FORMAT, "version": VERSION, **asdict(layout), **files}
    write_atomically(path / STORE_MANIFEST, json.dumps(values, indent=2) + "\n")


def read_manifest(path: Path) -> Manifest:
    """What ``store.json`` in the folder ``path`` records.

    Raises:
        DataError: there is no store, its ``store.json`` is damaged, or this version cannot read it.
    """
    file = path / STORE_MANIFEST
    if not file.is_file():
        hint = "make one: esmgn data build SOURCE... -o STORE"
        raise DataError(f"no store in {path}: it has no {STORE_MANIFEST}", hint)
    try:
        values = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}", FROM_COPY) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{file} is not the manifest of a store")
    if values.get("version") != VERSION:
        raise DataError(
            f"{path} is a store of version {values.get('version')}, this esmgn reads version {VERSION}",
            "update esmgn, or build the store anew",
        )
    known = {item.name: values[item.name] for item in fields(Layout) if item.name in values}
    choices = {"atoms": get_args(Atoms), "coordinates": get_args(Coordinates)}
    for name, value in known.items():
        if value not in choices.get(name, (True, False)):
            raise DataError(f"{file} is damaged: '{name}' is {value!r}", FROM_COPY)
    try:
        recorded = {"proteins", "shards", "files"} & values.keys()
        contents = Contents.from_dict(values) if recorded else None
    except ValueError as error:
        raise DataError(f"{file} is damaged: {error}", FROM_COPY) from error
    return Manifest(Layout(**known), contents)


def is_store(path: Path) -> bool:
    """Whether the folder ``path`` holds a store."""
    return (path / STORE_MANIFEST).is_file()
