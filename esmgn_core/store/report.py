"""Statistics of a store: what was read, annotated and refused."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from esmgn_core.alphabet import EIGHT_TO_THREE
from esmgn_core.io.annotate import areas
from esmgn_core.io.notes import group_notes
from esmgn_core.io.surface import UNKNOWN_STATE
from esmgn_core.store.index import row_account
from esmgn_core.store.reader import Store


def totals(store: Store) -> list[tuple[str, int]]:
    """Count residues and files by what happened to them, as label and count; zero counts are left out."""
    counts: Counter[str] = Counter()
    for text in store.index(["account"]).column("account").to_pylist():
        _count(row_account(text), counts)
    lines = [
        ("proteins", len(store)),
        ("residues", int(store.lengths.sum())),
        ("files refused", len(store.index(["name"], refused=True))),
        *counts.items(),
    ]
    return [(label, number) for label, number in lines if number]


def _count(account: dict[str, Any], counts: Counter[str]) -> None:
    """Add one account to the counts, in the order in which totals are shown."""
    chains = account["chains"]
    counts["chains"] += len(chains)
    counts["chains with a declared sequence"] += sum("declared" in chain for chain in chains)
    missing = [stretch for chain in chains for stretch in chain.get("missing", ())]
    counts["declared residues without coordinates"] += sum(last - first + 1 for first, last in missing)
    counts["residues that differ from the declared"] += sum(len(c.get("mismatched", ())) for c in chains)
    counts["residues not declared"] += sum(chain.get("undeclared", 0) for chain in chains)
    counts["breaks in the numbering"] += sum(len(chain.get("breaks", ())) for chain in chains)
    counts["residues with an insertion code"] += account.get("insertion_codes", 0)
    counts["residues with alternate locations"] += account.get("alternates", 0)
    counts["residues dropped without a CA atom"] += account.get("without_ca", 0)
    counts["kinds of modified residues read as their parent"] += len(account.get("modified", ()))
    counts["residues read as X"] += sum(account.get("unknown", {}).values())
    counts["files with several models, the first read"] += "models" in account
    for kind, number in account.get("left_out", {}).items():
        counts[f"left out: {kind}"] += number


def annotation_totals(store: Store) -> list[tuple[str, int]]:
    """Count residues by secondary structure, and with unknown state or exposure; empty without columns."""
    lines: list[tuple[str, int]] = []
    if "secondary_structure" in store.layout.annotations:
        states = state_counts(store)
        for number, label in enumerate(("helix (H, G, I)", "strand (E, B)", "coil (T, S, -)")):
            of_three = [
                count for count, three in zip(states, EIGHT_TO_THREE, strict=False) if three == number
            ]
            lines.append((f"residues in {label}", sum(of_three)))
        lines.append(("residues of unknown secondary structure", states[-1]))
    if "exposure" in store.layout.annotations:
        unknown = sum(int(np.isnan(areas(piece)).sum()) for piece in store.annotation("exposure"))
        lines.append(("residues of unknown exposure", unknown))
    return lines


def state_counts(store: Store) -> list[int]:
    """Count residues in each state of DSSP, and in unknown state last."""
    pieces = [
        np.bincount(piece, minlength=UNKNOWN_STATE + 1) for piece in store.annotation("secondary_structure")
    ]
    return [int(count) for count in sum(pieces, np.zeros(UNKNOWN_STATE + 1, dtype=np.int64))]


def reasons(store: Store) -> list[tuple[str, int]]:
    """Count refusals by reason, most frequent first; reasons that differ only in digits are one."""
    column = store.index(["reason"], refused=True).column("reason").to_pylist()
    kinds: dict[str, list[str]] = {}
    for reason in column:
        kinds.setdefault(re.sub(r"\d", "#", reason), []).append(reason)
    return [(same[0], len(same)) for same in sorted(kinds.values(), key=len, reverse=True)]


def notes(store: Store) -> list[str]:
    """Group the notes of readers on the files of a store, one line per kind of note."""
    return group_notes(store.notes())
