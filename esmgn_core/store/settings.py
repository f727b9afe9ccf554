"""What a store keeps: its layout, written once in ``store.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.errors import DataError
from esmgn_core.io.annotate import ANNOTATIONS
from esmgn_core.machine.files import write_atomically
from esmgn_core.manifest import STORE_MANIFEST

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


def write_manifest(path: Path, layout: Layout) -> None:
    """Write ``store.json`` into the folder ``path``."""
    values = {"format": FORMAT, "version": VERSION, **asdict(layout)}
    write_atomically(path / STORE_MANIFEST, json.dumps(values, indent=2) + "\n")


def read_manifest(path: Path) -> Layout:
    """The layout of the store in the folder ``path``.

    Raises:
        DataError: there is no store, or one this version cannot read.
    """
    file = path / STORE_MANIFEST
    if not file.is_file():
        hint = "make one: esmgn data build SOURCE... -o STORE"
        raise DataError(f"no store in {path}: it has no {STORE_MANIFEST}", hint)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{file} is no manifest of a store")
    if values.get("version") != VERSION:
        raise DataError(
            f"{path} is a store of version {values.get('version')}, this esmgn reads version {VERSION}",
            "update esmgn, or build the store anew",
        )
    known = {item.name: values[item.name] for item in fields(Layout) if item.name in values}
    return Layout(**known)


def is_store(path: Path) -> bool:
    """Whether the folder ``path`` holds a store."""
    return (path / STORE_MANIFEST).is_file()
