"""Parser for the notations of protein variants.

- ProteinGym: ``A12G:L15V``
- nn4dms: ``A12G,L15V``
- HGVS in MaveDB: ``p.[Ala12Gly;Leu15Val]``, ``p.(Ala12Gly)``, ``p.Ala12=``, ``p.Ala12Ter``, ``p.Ala12del``
- Enrich2: ``_wt``, ``_sy``, ``c.35C>G (p.Ala12Gly)``
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import gemmi

from esmgn_core.alphabet import AMINO_ACIDS

_LETTERS = {gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA).title(): letter for letter in AMINO_ACIDS}
_ONE_LETTER = re.compile(r"(?P<wild>[A-Z])(?P<number>-?[0-9]+)(?P<code>[A-Za-z]?)(?P<mutant>[A-Z])")
_THREE_LETTERS = re.compile(
    r"(?P<wild>[A-Z][a-z]{2})(?P<number>-?[0-9]+)(?P<code>[A-Za-z]?)(?P<mutant>[A-Z][a-z]{2})"
)
_RESIDUE = r"(?:[A-Z][a-z]{2}|[A-Z])-?[0-9]+[A-Za-z]?"
_RANGE = rf"{_RESIDUE}(?:_{_RESIDUE})?"

_EMPTY = ("", "na", "nan", "none", "null", ".", "-")
_WILD_TYPE = ("wt", "_wt", "wildtype", "wild-type", "wild_type", "wild type", "=", "(=)", "p.=", "p.(=)")
_SEPARATORS = re.compile(r"[:;,+|/&\s]+")
_PROTEIN_PART = re.compile(r"\(\s*(p\.[^()]*(?:\([^()]*\))?)\s*\)")


@dataclass(frozen=True, slots=True)
class Change:
    """The replacement of an amino acid, in the numbering of the text.

    Attributes:
        wild: one-letter code of the wild type.
        number: number of the residue.
        insertion_code: insertion code of the residue, one letter or empty.
        mutant: one-letter code of the mutant.
    """

    wild: str
    number: int
    insertion_code: str
    mutant: str

    def __str__(self) -> str:
        return f"{self.wild}{self.number}{self.insertion_code}{self.mutant}"


class NotScored(StrEnum):
    """Reasons to skip a row of a table; the first reason in this order is reported."""

    UNREADABLE = "not readable"
    EMPTY = "without a variant"
    WILD_TYPE = "wild type"
    SYNONYMOUS = "synonymous"
    STOP = "stop codon"
    FRAMESHIFT = "frameshift"
    DELETION = "deletion"
    INSERTION = "insertion"
    OTHER_RESIDUE = "not one of the 20 amino acids"


_FORMS = (
    (NotScored.SYNONYMOUS, re.compile(rf"{_RESIDUE}=|=")),
    (NotScored.STOP, re.compile(rf"{_RESIDUE}(?:Ter|Stop|STOP|[*_])|(?:Ter|\*)[0-9]+\S*")),
    (NotScored.FRAMESHIFT, re.compile(rf"{_RESIDUE}(?:[A-Z][a-z]{{2}}|[A-Z])?fs\S*")),
    (NotScored.INSERTION, re.compile(rf"{_RANGE}(?:del)?ins\S+|{_RANGE}dup\S*")),
    (NotScored.DELETION, re.compile(rf"{_RANGE}(?:del\S*|[-Δ∆])|(?:del|[Δ∆]){_RANGE}")),
    (NotScored.OTHER_RESIDUE, re.compile(rf"{_RESIDUE}(?:Xaa|Sec|Pyl|Asx|Glx|Xle|[BJOUXZ?])")),
)


def read_change(text: str) -> Change | None:
    """Parse ``A12G``, ``A12BG`` (insertion code B) or ``p.(Ala12Gly)``; ``None`` for other texts."""
    text = _bare(text)
    if match := _ONE_LETTER.fullmatch(text):
        wild, mutant = match["wild"], match["mutant"]
    elif match := _THREE_LETTERS.fullmatch(text):
        wild, mutant = _LETTERS.get(match["wild"], ""), _LETTERS.get(match["mutant"], "")
    else:
        return None
    if wild not in _LETTERS.values() or mutant not in _LETTERS.values():
        return None
    return Change(wild, int(match["number"]), match["code"], mutant)


def read_variant(text: str) -> tuple[Change, ...] | NotScored:
    """Parse a variant of a table into substitutions, or the reason to skip it.

    Synonymous parts and repeated parts of a variant with substitutions are dropped.
    """
    text = text.strip()
    if text.lower() in _EMPTY:
        return NotScored.EMPTY
    if text.lower() in _WILD_TYPE:
        return NotScored.WILD_TYPE
    if text.lower() == "_sy":
        return NotScored.SYNONYMOUS
    if named := _PROTEIN_PART.findall(text):  # Enrich2 writes the change of the DNA before
        text = ",".join(named)
    # A reference sequence may precede: NP_000509.1:p.Glu7Val.
    text = re.sub(r"\b[\w.]+:(?=p\.)", "", text).strip("[]")
    parts = [_part(part) for part in _SEPARATORS.split(text)]
    reasons = {part for part in parts if isinstance(part, NotScored)} - {NotScored.SYNONYMOUS}
    if reasons:
        return next(reason for reason in NotScored if reason in reasons)
    changes = tuple(dict.fromkeys(change for part in parts if isinstance(part, tuple) for change in part))
    if len({(change.number, change.insertion_code) for change in changes}) < len(changes):
        return NotScored.UNREADABLE  # two mutants at one residue
    return changes or NotScored.SYNONYMOUS


def _part(text: str) -> tuple[Change, ...] | NotScored:
    text = _bare(text)
    if change := read_change(text):
        return NotScored.SYNONYMOUS if change.wild == change.mutant else (change,)
    for reason, form in _FORMS:
        if form.fullmatch(text):
            return reason
    for separator in "_-":  # A12G_L15V; the forms above use these signs differently
        changes = [read_change(part) for part in text.split(separator)]
        if all(changes):
            return tuple(change for change in changes if change and change.wild != change.mutant)
    return NotScored.UNREADABLE


def _bare(text: str) -> str:
    """Remove ``p.``, the brackets of alleles and the parentheses of predictions (HGVS)."""
    text = text.strip().strip("[]").removeprefix("p.").strip("[]")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
