"""Read method, resolution and organism from the header of a structure file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import gemmi

PREDICTED = "predicted"
"""Method of a model that carries pLDDT."""

_METHOD = re.compile(rb"\nEXPDTA    (.*)")
_RESOLUTION = re.compile(rb"\nREMARK   2 RESOLUTION\.\s*(\d+\.?\d*)")
_SOURCE = re.compile(rb"\nSOURCE .{3}(.*)")
_ORGANISM = re.compile(r"ORGANISM_SCIENTIFIC: *([^;]+?) *(?:;|$)")
_RESOLUTION_ITEMS = (
    "_refine.ls_d_res_high",
    "_em_3d_reconstruction.resolution",
    "_reflns.d_resolution_high",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Method, resolution and organism in the header of a file; empty if not given.

    Attributes:
        method: in lower case, several joined by ``;``; ``predicted`` for structures with pLDDT.
        resolution: in angstrom.
        organism: scientific name of the first source.
    """

    method: str = ""
    resolution: float | None = None
    organism: str = ""


def pdb_origin(header: bytes) -> Origin:
    """Read the origin from the header of PDB text, see :func:`esmgn_core.io.plddt.pdb_header`."""
    method = _METHOD.search(header)
    resolution = _RESOLUTION.search(header)
    source = " ".join(line.decode("latin-1").strip() for line in _SOURCE.findall(header))
    organism = _ORGANISM.search(source)
    return Origin(
        method[1].decode("latin-1").strip().lower() if method else "",
        float(resolution[1]) if resolution else None,
        _name(organism[1]) if organism else "",
    )


def mmcif_origin(block: gemmi.cif.Block) -> Origin:
    """Read the origin from an mmCIF block."""
    methods = [gemmi.cif.as_string(method).lower() for method in block.find_values("_exptl.method")]
    resolutions = (
        gemmi.cif.as_number(value) for item in _RESOLUTION_ITEMS for value in block.find_values(item)
    )
    organisms = (
        gemmi.cif.as_string(value)
        for item in (
            "_entity_src_gen.pdbx_gene_src_scientific_name",
            "_entity_src_nat.pdbx_organism_scientific",
            "_ma_target_ref_db_details.organism_scientific",
        )
        for value in block.find_values(item)
    )
    return Origin(
        "; ".join(methods),
        next((value for value in resolutions if not math.isnan(value)), None),
        _name(next(filter(None, organisms), "")),
    )


def _name(organism: str) -> str:
    """Return ``HOMO SAPIENS`` as ``Homo sapiens``, the spelling of mmCIF files."""
    return organism.capitalize() if organism.isupper() else organism
