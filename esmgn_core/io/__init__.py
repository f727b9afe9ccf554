"""Structure files in, proteins out: ``find_structures``, then ``iter_structures`` or ``read_structures``."""

from esmgn_core.io.files import Refusal, UnreadableError
from esmgn_core.io.folders import find_structures
from esmgn_core.io.formats import FORMATS, Format, ParsedFile
from esmgn_core.io.names import unique_names
from esmgn_core.io.protein import ReadReport
from esmgn_core.io.read import iter_structures, read_protein, read_structure, read_structures

__all__ = [
    "FORMATS",
    "Format",
    "ParsedFile",
    "ReadReport",
    "Refusal",
    "UnreadableError",
    "find_structures",
    "iter_structures",
    "read_protein",
    "read_structure",
    "read_structures",
    "unique_names",
]
