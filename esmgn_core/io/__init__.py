"""Structure files in, proteins out: ``find_structures``, then ``iter_structures`` or ``read_structures``."""

from esmgn_core.io.files import Refusal, unique_names
from esmgn_core.io.folders import find_structures
from esmgn_core.io.read import (
    ReadReport,
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
