"""Scores of test proteins by similarity to training proteins and by confidence of the structure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.batch import Protein
from esmgn_core.engine.evaluate import Predictions, read_predictions, score_with_intervals
from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.parse import read_record
from esmgn_core.model.compose import resolve
from esmgn_core.protocols import DownstreamTask, LabeledDataset
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

IDENTITY, PLDDT = "identity", "plddt"
"""What test proteins are grouped by."""
EDGES = {IDENTITY: (0.0, 30.0, 50.0, 95.0), PLDDT: (0.0, 70.0, 90.0)}
"""Lower bounds of the bins: percent of identical residues, and mean pLDDT."""
FILE = "bins.json"
_CANDIDATES = 5
"""Training chains that are aligned with a test chain."""
_WORD = 3


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores of the test proteins of one bin.

    Attributes:
        low: lower bound; the upper one is that of the next bin, and 100 for the last. NaN for proteins
            without a value.
        number: number of predictions.
        scores: as in ``results.json``; empty if there are no predictions.
    """

    low: float
    number: int
    scores: Mapping[str, Mapping[str, float]]


Bins = dict[str, dict[str, list[Bin]]]
"""Bins by test set and by what they group."""


def bins_of_run(run: RunFolder, registry: Registry, *, resamples: int = 1000) -> tuple[Bins, list[str]]:
    """Group the test predictions of a downstream run, and write ``bins.json`` into its folder.

    The dataset is read again. The identity of a test protein is that of its chain that is most like a
    training chain; see :func:`nearest_identity`. Of groups of predictions, the first protein counts.

    Returns:
        The bins, and notes on proteins that cannot be read.

    Raises:
        RunError: the run has no predictions for a test set.
    """
    tables, _ = run.recorded_tables()
    blueprint = resolve(registry, configure(registry, [tables]))
    dataset = blueprint.dataset()
    sets = dataset.test_sets if isinstance(dataset, LabeledDataset) else {}
    if not sets or not run.predictions.is_file():
        raise RunError(
            f"{run.path} has no predictions for a test set", "they are written at the end of a run"
        )
    notes: list[str] = []
    known = [
        chain for protein in _read(dataset, dataset.split("train"), notes) for chain in chains_of(protein)
    ]
    _, labels = run.recorded_labels()
    task: DownstreamTask = blueprint.build(Kind.DOWNSTREAM, encoder_dim=1, num_targets=len(labels))
    found: Bins = {}
    for name, indices in sets.items():
        predictions = read_predictions(run, name)
        if predictions is None:
            continue
        proteins = _read(dataset, indices[:: dataset.group_size], notes)
        by_name = {protein.name: protein for protein in proteins}
        measured = [by_name.get(item) for item in predictions.names]
        values = {
            IDENTITY: _identities(measured, known),
            PLDDT: np.array([_plddt(protein) for protein in measured]),
        }
        found[name] = {
            kind: _binned(task, predictions, column, EDGES[kind], resamples)
            for kind, column in values.items()
            if np.isfinite(column).any()
        }
    text = json.dumps({"metric": task.metric, "sets": _as_json(found)}, indent=2)
    write_atomically(run.path / FILE, text + "\n")
    return found, notes


def read_bins(run: RunFolder) -> tuple[Bins, str]:
    """The bins in the folder of a run, and the name of its deciding score; empty without ``bins.json``."""
    record = read_record(run.path / FILE)
    sets: Mapping[str, Any] = record.get("sets", {})
    bins = {
        name: {
            kind: [
                Bin(math.nan if item["low"] is None else item["low"], item["number"], item["scores"])
                for item in items
            ]
            for kind, items in kinds.items()
        }
        for name, kinds in sets.items()
    }
    return bins, str(record.get("metric", ""))


def title(kind: str, low: float) -> str:
    """Text of a bin.

    >>> title("identity", 30.0)
    '30 to 50 %'
    """
    unit = " %" if kind == IDENTITY else ""
    if math.isnan(low):
        return "unknown"
    place = EDGES[kind].index(low)
    high = (*EDGES[kind], 100.0)[place + 1]
    return f"{low:g} to {high:g}{unit}"


def chains_of(protein: Protein) -> list[str]:
    """Sequences of the chains of a protein."""
    ends = [*(protein.chain_index.diff().nonzero().flatten() + 1).tolist(), len(protein)]
    return [protein.sequence[first:end] for first, end in zip([0, *ends], ends, strict=False)]


def nearest_identity(chains: Sequence[str], known: Sequence[str]) -> NDArray[np.float64]:
    """Identity of each chain with the most similar known one, percent, float64 [C].

    The five known chains with most common 3-mers are aligned globally (BLOSUM62, gaps of 10 and 1 for each
    residue). The identity is the share of the chain's own residues that are aligned with equal ones, so that
    a short known chain, such as a peptide, counts little. Unknown residues, X, count nowhere. A known chain
    that shares fewer 3-mers is not aligned.
    """
    blosum62 = gemmi.AlignmentScoring("b")
    words = [_words(chain) for chain in known]
    owners: dict[str, list[int]] = {}
    for number, own in enumerate(words):
        for word in own:
            owners.setdefault(word, []).append(number)
    identities = np.zeros(len(chains))
    for number, chain in enumerate(chains):
        shared = np.zeros(len(known))
        for word in _words(chain):
            shared[owners.get(word, [])] += 1
        for place in np.argsort(-shared, kind="stable")[:_CANDIDATES]:
            identities[number] = max(identities[number], 100 * _identity(chain, known[place], blosum62))
    return identities


def _identity(chain: str, other: str, scoring: gemmi.AlignmentScoring) -> float:
    aligned = gemmi.align_string_sequences(_residues(chain), _residues(other), [], scoring)
    pairs = zip(aligned.add_gaps(chain, 1), aligned.add_gaps(other, 2), strict=True)
    equal = sum(one == two and one not in "X-" for one, two in pairs)
    return equal / max(1, len(chain) - chain.count("X"))


def _residues(chain: str) -> list[str]:
    return gemmi.expand_one_letter_sequence(chain, gemmi.ResidueKind.AA)


def _words(chain: str) -> set[str]:
    words = {chain[first : first + _WORD] for first in range(len(chain) - _WORD + 1)}
    return {word for word in words if "X" not in word}


def _identities(proteins: Sequence[Protein | None], known: Sequence[str]) -> NDArray[np.float64]:
    chains = [(number, chain) for number, item in enumerate(proteins) if item for chain in chains_of(item)]
    values = np.full(len(proteins), np.nan)
    for (number, _), value in zip(
        chains, nearest_identity([chain for _, chain in chains], known), strict=True
    ):
        values[number] = np.fmax(values[number], value)
    return values


def _plddt(protein: Protein | None) -> float:
    return math.nan if protein is None or protein.plddt is None else float(protein.plddt.nanmean())


def _read(dataset: Any, indices: Sequence[int], notes: list[str]) -> Iterator[Protein]:
    """Yield proteins one by one, and append to ``notes`` those that cannot be read."""
    for index in indices:
        try:
            yield dataset[index]
        except (EsmgnError, OSError, ValueError) as error:
            notes.append(f"not read: {error}")


def _binned(
    task: DownstreamTask,
    found: Predictions,
    values: NDArray[np.float64],
    edges: Sequence[float],
    resamples: int,
) -> list[Bin]:
    place = np.searchsorted(edges, values, side="right") - 1
    bins = []
    for number, low in [*enumerate(edges), (None, math.nan)]:
        rows = np.flatnonzero(np.isnan(values) if number is None else (place == number) & ~np.isnan(values))
        if number is None and not len(rows):
            continue
        scores = score_with_intervals(task, found.take(rows.tolist()), resamples) if len(rows) else {}
        bins.append(Bin(low, len(rows), scores))
    return bins


def _as_json(found: Bins) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        name: {
            kind: [
                {
                    "low": number(item.low),
                    "number": item.number,
                    "scores": {
                        score: {key: number(value) for key, value in numbers.items()}
                        for score, numbers in item.scores.items()
                    },
                }
                for item in items
            ]
            for kind, items in kinds.items()
        }
        for name, kinds in found.items()
    }
