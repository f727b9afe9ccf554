"""Structure files in, proteins out: ``find_structures``, then ``iter_structures`` or ``read_structures``."""

from esmgn_core.io.files import find_structures, unique_names
from esmgn_core.io.read import (
    ReadReport,
    Refusal,
    iter_structures,
    read_protein,
    read_structure,
    read_structures,
)

__all__ = [
    "ReadReport",
    "Refusal",
    "find_structures",
    "iter_structures",
    "read_protein",
    "read_structure",
    "read_structures",
    "unique_names",
]
