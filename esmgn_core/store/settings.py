"""Read and write ``store.json``: the layout and the files of a store."""

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
    """The columns of each protein in a store.

    Attributes:
        atoms: ``backbone`` for N, CA, C and O, or ``ca`` for CA alone.
        coordinates: ``fixed`` for 16 bits in steps of 0.001 angstrom, or ``float32``.
        secondary_structure: True to keep the state of DSSP.
        exposure: True to keep the solvent-accessible surface.
    """

    atoms: Atoms = "backbone"
    coordinates: Coordinates = "fixed"
    secondary_structure: bool = False
    exposure: bool = False

    @property
    def annotations(self) -> tuple[str, ...]:
        """Names of the optional columns."""
        return tuple(name for name in ANNOTATIONS if getattr(self, name))

    @property
    def atom_slice(self) -> slice:
        """Slice of N, CA, C, O that is kept."""
        return slice(CA, CA + 1) if self.atoms == "ca" else slice(len(BACKBONE_ATOMS))

    @property
    def plddt_dtype(self) -> np.dtype[Any]:
        """Type of pLDDT: steps of 0.01 with backbones, of 0.5 with CA alone."""
        return np.dtype("u1" if self.atoms == "ca" else "<u2")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of ``store.json``.

    Attributes:
        layout: columns of each protein.
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
    """Read ``store.json`` in the folder ``path``.

    Raises:
        DataError: the folder is not a store, its ``store.json`` is damaged, or this version cannot read it.
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
            "update esmgn, or build the store again",
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
    """True if the folder ``path`` is a store."""
    return (path / STORE_MANIFEST).is_file()
