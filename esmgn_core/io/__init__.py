"""Readers of structure files: ``find_structures``, then ``iter_structures`` or ``read_structures``."""

from esmgn_core.io.atom3d import Atom3DRecords, atoms_to_protein, atoms_to_residues
from esmgn_core.io.chains import chain_in, no_chain
from esmgn_core.io.files import Refusal, UnreadableError
from esmgn_core.io.folders import FoundFiles, find_structures, nothing_found, passed_over_text, search
from esmgn_core.io.formats import FORMATS, Format, ParsedFile
from esmgn_core.io.hdf5 import read_datasets
from esmgn_core.io.names import structure_name, unique_names
from esmgn_core.io.notes import group_notes
from esmgn_core.io.protein import ReadReport
from esmgn_core.io.read import iter_structures, read_protein, read_structure, read_structures

__all__ = [
    "FORMATS",
    "Atom3DRecords",
    "Format",
    "FoundFiles",
    "ParsedFile",
    "ReadReport",
    "Refusal",
    "UnreadableError",
    "atoms_to_protein",
    "atoms_to_residues",
    "chain_in",
    "find_structures",
    "group_notes",
    "iter_structures",
    "no_chain",
    "nothing_found",
    "passed_over_text",
    "read_datasets",
    "read_protein",
    "read_structure",
    "read_structures",
    "search",
    "structure_name",
    "unique_names",
]
