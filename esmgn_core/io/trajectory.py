"""Read frames of molecular dynamics trajectories as proteins with mdtraj.

The readers of mdtraj, HDF5 and NetCDF crash or hang on some damaged files, so they run in a child process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from esmgn_core.alphabet import BACKBONE_ATOMS, encode
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.copies import unique_names
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.hdf5 import check_links
from esmgn_core.io.residues import classify
from esmgn_core.io.table import NO_CODE
from esmgn_core.machine.child import ChildError, call, limit_for

TRAJECTORY_SUFFIXES = (".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".h5", ".binpos", ".lh5")
_HDF5_SUFFIXES = (".h5", ".lh5", ".nc", ".netcdf")
_ANGSTROM_PER_NM = 10


def num_frames(path: Path, topology: Path) -> int:
    """Count the frames of a trajectory.

    Raises:
        UnreadableError: mdtraj cannot open it, or its atoms are not those of the topology.
    """
    try:
        count: int = call(_num_frames, path, topology, limit=limit_for(path))
    except ChildError as error:
        raise UnreadableError(f"mdtraj cannot read it: {error}") from error
    return count


def frame(path: Path, topology: Path, number: int) -> ResidueArrays:
    """Read the protein in frame ``number`` of a trajectory; nanometres are converted to angstrom.

    Raises:
        UnreadableError: the frame cannot be read, or the topology has no residue with a CA atom.
    """
    try:
        residues: ResidueArrays = call(_frame, path, topology, number, limit=limit_for(path))
    except ChildError as error:
        raise UnreadableError(f"mdtraj cannot read frame {number}: {error}") from error
    return residues


def _num_frames(path: Path, topology: Path) -> int:
    import mdtraj

    with _mdtraj_errors(f"mdtraj cannot read it with the topology {topology}"):
        if path.suffix.lower() in _HDF5_SUFFIXES:
            check_links(path)
        with mdtraj.open(str(path)) as file:
            count = len(file)
        if count < 1:
            raise UnreadableError("it has no frames")
        mdtraj.load_frame(str(path), 0, top=_topology(topology))  # raises if the numbers of atoms differ
        _frame(path, topology, 0)
    return count


def _frame(path: Path, topology: Path, number: int) -> ResidueArrays:
    import mdtraj

    with _mdtraj_errors(f"mdtraj cannot read frame {number}"):
        atoms, cells, template = _template(topology)
        loaded = mdtraj.load_frame(str(path), number, top=_topology(topology), atom_indices=atoms)
        position = np.full((len(template) * len(BACKBONE_ATOMS), 3), np.nan, dtype=np.float32)
        position[cells] = loaded.xyz[0] * _ANGSTROM_PER_NM
    if not np.isfinite(position[cells]).all():
        raise UnreadableError(f"frame {number} has coordinates that are not finite")
    return ResidueArrays(
        residue_type=template.residue_type,
        backbone=position.reshape(-1, len(BACKBONE_ATOMS), 3),
        number=template.number,
        insertion_code=template.insertion_code,
        chain=template.chain,
        chains=template.chains,
        plddt=None,
    )


@contextmanager
def _mdtraj_errors(message: str) -> Iterator[None]:
    """Convert exceptions of mdtraj on damaged files to :class:`UnreadableError`."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableError(f"{message}: {' '.join(str(error).split()) or type(error).__name__}") from error


@functools.lru_cache(maxsize=4)
def _topology(path: Path) -> Any:
    import mdtraj

    return mdtraj.load_topology(str(path))


@functools.lru_cache(maxsize=4)
def _template(path: Path) -> tuple[Any, Any, ResidueArrays]:
    """Return backbone atoms of the topology, their rows among residues x atoms, and residues to fill in."""
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
    names = unique_names([_chain_name(_topology(path), index) for index in chains])
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
