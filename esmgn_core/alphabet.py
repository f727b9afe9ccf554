"""Codes of residues and atoms in a batch. Encoders map them to their own alphabets."""

from __future__ import annotations

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""One-letter codes of the residue types 0-19."""

UNKNOWN = 20
"""Residue type of a residue without a standard parent (one-letter code X)."""

MASKED = 21
"""Residue type of a residue hidden by a pretext task."""

NUM_RESIDUE_FEATURES = 21
"""Width of the one-hot residue feature: 20 types and unknown. Masked residues are all zeros."""

BACKBONE_ATOMS = ("N", "CA", "C", "O")
"""Atoms of the backbone, in the order of ``Protein.backbone``."""
CA = BACKBONE_ATOMS.index("CA")
"""Index of the CA atom in :data:`BACKBONE_ATOMS`."""

SECONDARY_STATES = "HBEGITS-"
"""States of DSSP: alpha helix, bridge, strand, 3-10 helix, pi helix, turn, bend, loop."""

THREE_STATES = "HEC"
"""Helix, strand, coil."""

EIGHT_TO_THREE = tuple(THREE_STATES.index("HEEHHCCC"[state]) for state in range(len(SECONDARY_STATES)))
"""Index into :data:`THREE_STATES` of each DSSP state: helices are H, bridges and strands E, the rest C."""

_LETTERS = AMINO_ACIDS + "X#"
_CODES = {letter: code for code, letter in enumerate(AMINO_ACIDS)}


def encode(sequence: str) -> list[int]:
    """Residue types of a one-letter sequence; other letters than the 20 amino acids are unknown.

    >>> encode("ACX")
    [0, 1, 20]
    """
    return [_CODES.get(letter, UNKNOWN) for letter in sequence]


def decode(residue_types: list[int]) -> str:
    """One-letter sequence of residue types: X for unknown, # for masked.

    >>> decode([0, 1, 20, 21])
    'ACX#'
    """
    return "".join(_LETTERS[code] for code in residue_types)
