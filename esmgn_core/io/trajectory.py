"""Frames of molecular dynamics trajectories as proteins, through mdtraj."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from esmgn_core.alphabet import BACKBONE_ATOMS, encode
from esmgn_core.errors import DataError
from esmgn_core.io.arrays import NO_CODE, ResidueArrays
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.residues import classify

TRAJECTORY_SUFFIXES = (".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".h5", ".binpos", ".lh5")
_ANGSTROM_PER_NM = 10


def num_frames(path: Path, topology: Path) -> int:
    """Frames of a trajectory.

    Raises:
        DataError: mdtraj cannot open it, or its atoms are not those of the topology.
    """
    import mdtraj

    try:
        with mdtraj.open(str(path)) as file:
            count = len(file)
        frame(path, topology, 0)
    except (OSError, ValueError, RuntimeError, TypeError, UnreadableError) as error:
        raise DataError(f"mdtraj cannot read {path} with the topology {topology}: {error}") from error
    return int(count)


def frame(path: Path, topology: Path, number: int) -> ResidueArrays:
    """The protein in frame ``number`` of a trajectory; nanometres become angstrom.

    Raises:
        UnreadableError: the frame cannot be read, or the topology has no residue with a CA atom.
    """
    import mdtraj

    atoms, cells, template = _template(topology)
    try:
        loaded = mdtraj.load_frame(str(path), number, top=_topology(topology), atom_indices=atoms)
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise UnreadableError(f"mdtraj cannot read frame {number}: {error}") from error
    position = np.full((len(template) * len(BACKBONE_ATOMS), 3), np.nan, dtype=np.float32)
    position[cells] = loaded.xyz[0] * _ANGSTROM_PER_NM
    return ResidueArrays(
        residue_type=template.residue_type,
        backbone=position.reshape(-1, len(BACKBONE_ATOMS), 3),
        number=template.number,
        insertion_code=template.insertion_code,
        chain=template.chain,
        chains=template.chains,
        plddt=None,
    )


@functools.lru_cache(maxsize=4)
def _topology(path: Path) -> Any:
    import mdtraj

    return mdtraj.load_topology(str(path))


@functools.lru_cache(maxsize=4)
def _template(path: Path) -> tuple[Any, Any, ResidueArrays]:
    """Backbone atoms of the topology, where each goes, and the residues without coordinates."""
    residues = [
        residue
        for residue in _topology(path).residues
        if any(atom.name == "CA" and atom.element.symbol == "C" for atom in residue.atoms)
    ]
    if not residues:
        raise UnreadableError("the topology has no residue with a CA atom")
    cells = {
        atom.index: row * len(BACKBONE_ATOMS) + BACKBONE_ATOMS.index(atom.name)
        for row, residue in enumerate(residues)
        for atom in residue.atoms
        if atom.name in BACKBONE_ATOMS
    }
    letters = "".join(classify(residue.name, {})[1] for residue in residues)
    chains = list(dict.fromkeys(residue.chain.index for residue in residues))
    names = tuple(_chain_name(_topology(path), index) for index in chains)
    template = ResidueArrays(
        residue_type=np.array(encode(letters), dtype=np.uint8),
        backbone=np.zeros((len(residues), len(BACKBONE_ATOMS), 3), dtype=np.float32),
        number=np.array([residue.resSeq for residue in residues], dtype=np.int32),
        insertion_code=np.full(len(residues), NO_CODE, dtype=np.uint8),
        chain=np.array([chains.index(residue.chain.index) for residue in residues], dtype=np.int64),
        chains=names,
        plddt=None,
    )
    return np.array(sorted(cells)), np.array([cells[atom] for atom in sorted(cells)]), template


def _chain_name(topology: Any, index: int) -> str:
    name = getattr(topology.chain(index), "chain_id", None)
    return str(name) if name else chr(ord("A") + index % 26)
