"""Read the first model of a gemmi structure into a table of residues, one conformer each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import AMINO_ACIDS, BACKBONE_ATOMS, CA, encode
from esmgn_core.io.conformers import choose_conformers
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.residues import ResidueClass, classify, name_of_letter

ATOMS = (*BACKBONE_ATOMS, "CB")
CB = ATOMS.index("CB")

NO_CODE = ord(" ")
"""Insertion code of a residue without one."""

_CALCIUM = gemmi.Element("Ca").atomic_number
_NO_NUMBER = np.iinfo(np.int32).min  # gemmi's residue number where a file has none
_STANDARD_NAMES = np.array([name_of_letter(letter) for letter in AMINO_ACIDS], dtype="S8")
_MAX_NAME = 7  # gemmi.FlatStructure refuses longer names


@contextmanager
def gemmi_errors() -> Iterator[None]:
    """Convert exceptions of gemmi on unreadable text to :class:`UnreadableError`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise UnreadableError(f"gemmi cannot read it: {' '.join(str(error).split())}") from error


@dataclass(frozen=True, slots=True)
class ResidueTable:
    """R residues of the first model in file order, including ligands and waters.

    Attributes:
        position: float32 [R, 5, 3], atoms N, CA, C, O, CB in angstrom; NaN where missing or not finite.
        ca_b_factor: float32 [R], B-factor of the CA atom, NaN without one.
        name: S8 [R], residue name.
        number: int32 [R], residue number.
        insertion_code: uint8 [R], ASCII, 32 for none.
        chain: int64 [R], index into ``chains``.
        chains: chain names of the file, empty where the file leaves them blank.
        residue_class: int64 [R], values of :class:`ResidueClass`.
        residue_type: int64 [R], see :mod:`esmgn_core.alphabet`.
        entity_type: uint8 [R], values of :class:`gemmi.EntityType`.
        is_hetatm: bool [R].
        has_alternates: bool [R], True for residues with alternate locations.
        subchain: int64 [R], equal for residues of one ``label_asym_id``; 0 if the file has none.
        repeats_atoms: True if a residue has two CA atoms of one conformer.
        notes: what the reader dropped, divided or guessed, one short sentence each.
    """

    position: NDArray[np.float32]
    ca_b_factor: NDArray[np.float32]
    name: NDArray[np.bytes_]
    number: NDArray[np.int32]
    insertion_code: NDArray[np.uint8]
    chain: NDArray[np.int64]
    chains: tuple[str, ...]
    residue_class: NDArray[np.int64]
    residue_type: NDArray[np.int64]
    entity_type: NDArray[np.uint8]
    is_hetatm: NDArray[np.bool_]
    has_alternates: NDArray[np.bool_]
    subchain: NDArray[np.int64]
    repeats_atoms: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of_standard_chain(
        cls,
        residue_type: NDArray[np.uint8],
        number: NDArray[np.int32],
        backbone: NDArray[np.float32],
        ca_b_factor: NDArray[np.float32],
        chain: str,
    ) -> Self:
        """Make a table of one chain of n standard residues, each with N, CA, C and O.

        Args:
            residue_type: uint8 [n].
            number: int32 [n].
            backbone: float32 [n, 4, 3] in angstrom.
            ca_b_factor: float32 [n].
            chain: name of the chain.
        """
        length = len(residue_type)
        zeros, false = np.zeros(length, dtype=np.int64), np.zeros(length, dtype=np.bool_)
        position = np.full((length, len(ATOMS), 3), np.nan, dtype=np.float32)
        position[:, : len(BACKBONE_ATOMS)] = backbone
        return cls(
            position=position,
            ca_b_factor=ca_b_factor,
            name=_STANDARD_NAMES[residue_type],
            number=number,
            insertion_code=np.full(length, NO_CODE, dtype=np.uint8),
            chain=zeros,
            chains=(chain,),
            residue_class=np.full(length, ResidueClass.AMINO_ACID.value),
            residue_type=residue_type.astype(np.int64),
            entity_type=np.full(length, gemmi.EntityType.Polymer.value, dtype=np.uint8),
            is_hetatm=false,
            has_alternates=false,
            subchain=zeros,
            repeats_atoms=False,
        )

    @property
    def has_ca(self) -> NDArray[np.bool_]:
        """Bool [R], True for residues with a CA atom with finite coordinates."""
        has_ca: NDArray[np.bool_] = np.isfinite(self.position[:, CA, 0])
        return has_ca

    @property
    def is_trusted(self) -> NDArray[np.bool_]:
        """Bool [R], True for known amino acids in ATOM records."""
        is_trusted: NDArray[np.bool_] = (self.residue_class == ResidueClass.AMINO_ACID) & ~self.is_hetatm
        return is_trusted

    @property
    def repeats_residues(self) -> bool:
        """True if two possible protein residues of a chain share a number, or a residue has two CA atoms."""
        possible = self.has_ca & (self.residue_class <= ResidueClass.AMINO_ACID)
        chain, number = self.chain[possible], self.number[possible].astype(np.int64)
        # Chain, number of 32 bits and code of 8 bits packed into one integer.
        key = (chain << 40) + (number << 8) + self.insertion_code[possible]
        return self.repeats_atoms or len(np.unique(key)) < len(key)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Return some rows of the table, given a bool mask or int64 indices."""
        columns: dict[str, Any] = {
            item.name: value[rows]
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), np.ndarray)
        }
        return replace(self, **columns)


def residue_table(structure: gemmi.Structure) -> ResidueTable:
    """Read the first model of a structure into arrays.

    One conformer is read of alternate locations, see :func:`choose_conformers`. Residues of different types
    with one number that are alternatives of each other (microheterogeneity) are one residue.

    Raises:
        UnreadableError: the first model has no atoms, or residue numbers are missing.
    """
    if not (len(structure) and structure[0].count_atom_sites()):
        raise UnreadableError("no atoms in the first model")
    chains = tuple(chain.name for chain in structure[0])
    sizes = [chain.count_atom_sites() for chain in structure[0]]
    flat = _flatten(structure)
    first_model = slice(sum(sizes))
    chain = np.repeat(np.arange(len(sizes)), sizes)
    number, icode = flat.resnums[first_model], flat.icodes[first_model]
    names, altloc = _names(flat.residue_names)[first_model], flat.altlocs[first_model]

    # A component is what gemmi calls a residue: one number and one name.
    is_start = changes(chain, number, icode, names)
    starts = np.flatnonzero(is_start)
    component = np.cumsum(is_start) - 1
    joined = _alternatives(changes(chain[starts], number[starts], icode[starts]), altloc, starts)
    residue = np.cumsum(~joined) - 1

    residue_class, residue_type = _classify(names[starts], _parents(structure))
    slot = _slots(_names(flat.atom_names)[first_model])
    calcium = (slot == CA) & (flat.elements[first_model] == _CALCIUM)
    slot[calcium & (residue_class[component] != ResidueClass.AMINO_ACID)] = -1

    atoms = np.flatnonzero(slot >= 0)
    owner = component[atoms]
    kept, chosen = choose_conformers(
        residue[owner], owner, slot[atoms], altloc[atoms], flat.occ[atoms], np.flatnonzero(~joined)
    )
    atoms = atoms[kept]
    cells = residue[component[atoms]], slot[atoms]
    position = np.full((len(chosen), len(ATOMS), 3), np.nan, dtype=np.float32)
    with np.errstate(over="ignore"):
        position[cells] = flat.pos[atoms]
    position[~np.isfinite(position).all(-1)] = np.nan
    b_factor = np.full((len(chosen), len(ATOMS)), np.nan, dtype=np.float32)
    b_factor[cells] = flat.b_iso[atoms]

    rows = starts[chosen]
    if (number[rows][np.isfinite(position[:, CA]).all(-1)] == _NO_NUMBER).any():
        raise UnreadableError("residue numbers are missing: number the residues of each chain")
    return ResidueTable(
        position=position,
        ca_b_factor=b_factor[:, CA],
        name=names[rows].view("S8"),
        number=number[rows],
        insertion_code=icode[rows].astype(np.uint8),
        chain=chain[rows],
        chains=chains,
        residue_class=residue_class[chosen],
        residue_type=residue_type[chosen],
        entity_type=flat.entity_type[rows],
        is_hetatm=flat.het_flags[rows] == ord("H"),
        subchain=_names(flat.subchains)[first_model][rows],
        has_alternates=np.bincount(residue[component], altloc != 0, len(chosen)) > 0,
        repeats_atoms=_repeats(component[slot == CA], altloc[slot == CA]),
    )


def _flatten(structure: gemmi.Structure) -> gemmi.FlatStructure:
    """Convert a structure to columns; names that are too long for them are cleared in a copy."""
    names = (
        name for chain in structure[0] for name in (chain.name, *(residue.subchain for residue in chain))
    )
    if structure.input_format != gemmi.CoorFormat.Pdb and max(map(len, names)) > _MAX_NAME:
        structure = structure.clone()
        for chain in structure[0]:
            chain.name = ""
            for residue in chain:
                residue.subchain = ""
    with gemmi_errors():
        return gemmi.FlatStructure(structure)


def _names(column: object) -> NDArray[np.int64]:
    """View the int8 [N, 8] names of a FlatStructure as int64 [N], which compare and sort faster."""
    return np.ascontiguousarray(column).view(np.int64)[:, 0]


def changes(*columns: NDArray[np.generic]) -> NDArray[np.bool_]:
    """True at each row that differs from the one before in any column, and at the first row."""
    changed = np.ones(len(columns[0]), dtype=np.bool_)
    changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changed


def _alternatives(
    new_number: NDArray[np.bool_], altloc: NDArray[np.int8], starts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """True for each component that is an alternative of the one before it.

    Two residue names with one number are alternatives if all atoms of one of them have an altloc label.
    Without labels they are two molecules that share a number.
    """
    all_labeled = np.logical_and.reduceat(altloc != 0, starts)
    joined = ~new_number
    joined[1:] &= all_labeled[1:] | all_labeled[:-1]
    return joined


def _parents(structure: gemmi.Structure) -> dict[str, str]:
    return {
        modified.res_id.name.upper(): modified.parent_comp_id
        for modified in structure.mod_residues
        if modified.parent_comp_id
    }


def _classify(
    names: NDArray[np.int64], parents: Mapping[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    unique, inverse = np.unique(names, return_inverse=True)
    decoded = [name.decode("latin-1") for name in unique.view("S8").tolist()]
    classes, letters = zip(*(classify(name, parents) for name in decoded), strict=True)
    return np.array(classes, dtype=np.int64)[inverse], np.array(encode("".join(letters)))[inverse]


def _slots(atom_names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each atom name in ``ATOMS``, int64 [N], -1 for other atoms."""
    slot = np.full(len(atom_names), -1)
    for position, name in enumerate(np.array(ATOMS, dtype="S8").view(np.int64)):
        slot[atom_names == name] = position
    return slot


def _repeats(component: NDArray[np.int64], altloc: NDArray[np.int8]) -> bool:
    """True if a pair of component and altloc label occurs twice."""
    pairs = component * 256 + altloc
    return len(np.unique(pairs)) < len(pairs)
