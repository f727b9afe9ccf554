"""Select the protein of a parsed file, and report what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import gemmi

from esmgn_core.alphabet import UNKNOWN, decode
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.formats import ParsedFile
from esmgn_core.io.origin import PREDICTED, Origin
from esmgn_core.io.polymer import CLASS_WORDS, ProteinRows, rows_of_protein
from esmgn_core.io.residues import STANDARD_NAMES
from esmgn_core.io.seqres import ChainAccount, chain_accounts


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What was read from one file, and what was left out.

    Attributes:
        format: name of the format, found by content.
        num_models: number of models in the file; the first one was read.
        without_ca: number of protein residues dropped because they have no CA atom with finite coordinates.
        left_out: number of residues outside protein chains: waters, ions, ligands, nucleic acids.
        left_out_kinds: ``left_out`` by kind, ``{"water": 88}``.
        alternates: number of residues with alternate locations, of which one was read.
        modified: name of a modified residue -> letter of the parent it was read as, ``{"MSE": "M"}``.
        unknown: name of a residue without a standard parent -> number of them, read as X.
        notes: what else was dropped, divided or guessed, one short sentence each.
    """

    format: str
    num_models: int = 1
    without_ca: int = 0
    left_out: int = 0
    modified: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    left_out_kinds: Mapping[str, int] = field(default_factory=dict)
    alternates: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The protein of a structure file, and functions that read its header on demand.

    Attributes:
        residues: the protein.
        report: what was left out.
        origin: reads method, resolution and organism.
        chains: compares each chain with its declared sequence.
        structure: parses all atoms of the file; ``None`` if the source is not a structure file.
    """

    residues: ResidueArrays
    report: ReadReport
    origin: Callable[[], Origin]
    chains: Callable[[], tuple[ChainAccount, ...]]
    structure: Callable[[], gemmi.Structure] | None = None


def protein_of(parsed: ParsedFile, file_format: str, note: str = "") -> Reading:
    """Select the protein of a parsed file.

    Args:
        parsed: the file.
        file_format: name of its format.
        note: an additional note for the report, or empty.

    Raises:
        UnreadableError: the file contains no protein.
    """
    if parsed.is_protein:
        kept, report = parsed.table, ReadReport(file_format, parsed.num_models)
    else:
        rows = rows_of_protein(parsed.table)
        kept, report = parsed.table.take(rows.kept), _report(parsed, rows, file_format)
    residues = ResidueArrays.from_table(kept, has_plddt=parsed.has_plddt)

    def origin() -> Origin:
        found = parsed.origin()
        return found if residues.plddt is None else replace(found, method=PREDICTED)

    return Reading(
        residues,
        replace(report, notes=(*report.notes, note)) if note else report,
        origin=origin,
        chains=lambda: chain_accounts(kept, parsed.declared()),
        structure=parsed.structure,
    )


def _report(parsed: ParsedFile, rows: ProteinRows, file_format: str) -> ReadReport:
    table = parsed.table
    left_out = ~rows.kept & ~rows.without_ca
    names, types = table.name[rows.kept].tolist(), table.residue_type[rows.kept].tolist()
    counts = {
        (name.decode("latin-1").upper(), residue_type): count
        for (name, residue_type), count in Counter(zip(names, types, strict=True)).items()
    }
    return ReadReport(
        format=file_format,
        num_models=parsed.num_models,
        without_ca=int(rows.without_ca.sum()),
        left_out=int(left_out.sum()),
        left_out_kinds={
            word: count
            for residue_class, word in CLASS_WORDS.items()
            if (count := int((table.residue_class[left_out] == residue_class).sum()))
        },
        alternates=int(table.has_alternates[rows.kept].sum()),
        modified={
            name: decode([residue_type])
            for name, residue_type in counts
            if residue_type != UNKNOWN and name not in STANDARD_NAMES
        },
        unknown={name: count for (name, residue_type), count in counts.items() if residue_type == UNKNOWN},
        notes=table.notes,
    )
