"""What pre-training on structures gives to tasks with labels: probes on frozen encoders.

    python benchmarks/pretraining.py STORE [--ec TABLE] [--objective NAME ...] [--seeds 0 1 2] [--minutes 1.5]

STORE is built with ``esmgn data build ... --secondary-structure --exposure``. TABLE has columns ``file`` and
``ec``; a file is named after its protein. Every encoder is the model of learning.py, GearNet on
one-hot residue types, pre-trained on proteins outside the test clusters for the given minutes of processor
time of one core. The probes are linear: logistic regression of three states of secondary structure and of
the first digit of the EC number, ridge regression of the exposure. They learn on the pre-training proteins
and are scored on the test clusters. Baselines are the same encoder without training, a window of residue
types, and the majority or mean. Values are means over seeds, with the standard deviation in brackets. The
gain is over the untrained encoder, paired by seed, with a 95 % t interval.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from learning import MEASURES, small, split, text, trained, verdict
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn.functional import one_hot, pad

from esmgn_core.alphabet import EIGHT_TO_THREE, UNKNOWN
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.store import Store

PROBES = ("secondary structure", "exposure", "EC first digit")
UNTRAINED, WINDOW, PRIOR = "untrained encoder", "residue types, window of 15", "majority or mean"
LARGEST, MOST_RESIDUES, REACH, TEST_SHARE = 1000, 30_000, 7, 0.15


class Features:
    """Rows for the probes: of residues [N, D], and of proteins [P, E]."""

    def __init__(self, residue: Sequence[np.ndarray], protein: Sequence[np.ndarray]) -> None:
        self.residue, self.protein = residue, np.stack(protein)


class Labels:
    """Labels of proteins: states and exposure of their residues (-1 and NaN if unknown), and EC (0)."""

    def __init__(self, proteins: Sequence[Protein], numbers: dict[str, int]) -> None:
        self.state, self.exposure = [], []
        for protein in proteins:
            state = protein.features["secondary_structure"].numpy()
            three = np.array(EIGHT_TO_THREE)[np.nan_to_num(state).astype(int)]
            self.state.append(np.where(np.isnan(state), -1, three))
            self.exposure.append(protein.features["exposure"].numpy())
        self.number = np.array([numbers.get(protein.name, 0) for protein in proteins])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--ec", type=Path)
    parser.add_argument("--objective", nargs="+", default=[*MEASURES], choices=MEASURES, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=1.5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(arguments.store)
    proteins = [store[index] for index in range(len(store)) if 30 <= store.lengths[index] <= LARGEST]
    train, test = split(proteins, TEST_SHARE)
    numbers = read_ec(arguments.ec) if arguments.ec else {}
    labels = Labels(train, numbers), Labels(test, numbers)
    print(f"{len(train)} training and {len(test)} test proteins, {arguments.minutes:g} minutes an encoder\n")
    print(f"| features | {' | '.join(f'{probe} | gain (95 %) | better' for probe in PROBES)} | steps |")
    print("|" + "---|" * (3 * len(PROBES) + 2), flush=True)
    row(PRIOR, [prior(*labels)])
    row(WINDOW, [scores((windows(train), windows(test)), labels)])
    untrained = [
        scores(encoded(small("residue_type", seed, hidden=False).encoder(), seed, train, test), labels)
        for seed in arguments.seeds
    ]
    row(UNTRAINED, untrained)
    for objective in arguments.objective:
        found, steps = [], []
        for seed in arguments.seeds:
            step, number = trained(objective, seed, arguments.minutes, train)
            found.append(scores(encoded(step.encoder, seed, train, test), labels))
            steps.append(number)
        row(f"`{objective}`", found, untrained, f"{statistics.mean(steps):.0f}")


def row(
    name: str,
    found: Sequence[dict[str, float]],
    baseline: Sequence[dict[str, float]] = (),
    steps: str = "-",
) -> None:
    """Print a row of the table."""
    cells = []
    for probe in PROBES:
        values = [scores[probe] for scores in found]
        others = {UNTRAINED: [scores[probe] for scores in baseline]}
        gain = verdict(values, others, more_is_better=True) if baseline else ("-", "-")
        cells += [text(values), *gain]
    print(f"| {name} | {' | '.join(cells)} | {steps} |", flush=True)


def read_ec(table: Path) -> dict[str, int]:
    """The first digit of proteins that have one only, by name."""
    numbers = {}
    with table.open(encoding="utf-8") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            digits = {number.strip()[0] for number in line["ec"].replace(";", ",").split(",")}
            if len(digits) == 1:
                numbers[Path(line["file"]).name.partition(".")[0]] = int(digits.pop())
    return numbers


@torch.no_grad()
def encoded(
    encoder: torch.nn.Module, seed: int, train: Sequence[Protein], test: Sequence[Protein]
) -> tuple[Features, Features]:
    """Representations of both sets by a frozen encoder."""
    encoder.eval()
    graph = small("residue_type", seed, hidden=False).graph()
    results = []
    for proteins in (train, test):
        residue, protein = [], []
        for first in range(0, len(proteins), 16):
            batch = ProteinBatch.from_proteins(proteins[first : first + 16])
            encoding = encoder(batch, graph(batch))
            residue += [rows.numpy() for rows in encoding.residue.split(batch.lengths.tolist())]
            protein += [*encoding.protein.numpy()]
        results.append(Features(residue, protein))
    return results[0], results[1]


def windows(proteins: Sequence[Protein]) -> Features:
    """One-hot residue types around each residue, and the composition of each protein."""
    residue, protein = [], []
    for one in proteins:
        types = one_hot(pad(one.residue_type.long(), (REACH, REACH), value=UNKNOWN), UNKNOWN + 1)
        rows = types.unfold(0, 2 * REACH + 1, 1).flatten(1).float()
        residue.append(rows.numpy())
        protein.append(types[REACH:-REACH].float().mean(0).numpy())
    return Features(residue, protein)


def prior(train: Labels, test: Labels) -> dict[str, float]:
    """Scores of the most frequent class; a constant explains none of the exposure."""
    state, number = np.concatenate(train.state), train.number[train.number > 0]
    common = np.bincount(state[state >= 0]).argmax()
    asked, given = np.concatenate(test.state), test.number[test.number > 0]
    first_digit = float(np.mean(given == np.bincount(number).argmax())) if len(number) else np.nan
    return {
        "secondary structure": float(np.mean(asked[asked >= 0] == common)),
        "exposure": 0.0,
        "EC first digit": first_digit,
    }


def scores(features: tuple[Features, Features], labels: tuple[Labels, Labels]) -> dict[str, float]:
    """Accuracy of states, explained variance R2 of the exposure, accuracy of EC digits."""
    residues = [np.concatenate(part.residue) for part in features]
    states = [np.concatenate(part.state) for part in labels]
    areas = [np.concatenate(part.exposure) for part in labels]
    numbers = [part.number for part in labels]
    classifier = LogisticRegression(solver="newton-cholesky")
    return {
        "secondary structure": probe(classifier, residues, states, [state >= 0 for state in states]),
        "exposure": probe(Ridge(), residues, areas, [np.isfinite(area) for area in areas]),
        "EC first digit": probe(
            LogisticRegression(solver="newton-cholesky", C=0.1),
            [part.protein for part in features],
            numbers,
            [number > 0 for number in numbers],
        ),
    }


def probe(
    model: LogisticRegression | Ridge,
    rows: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    known: Sequence[np.ndarray],
) -> float:
    """The test score of a probe; features are standardized by the training rows."""
    (inputs, asked), (answers, given) = (
        [part[mask] for part, mask in zip(parts, known, strict=True)] for parts in (rows, labels)
    )
    if not len(answers):
        return float("nan")
    chosen = np.random.default_rng(0).permutation(len(inputs))[:MOST_RESIDUES]
    mean, scale = inputs[chosen].mean(0), inputs[chosen].std(0).clip(min=1e-6)
    model.fit((inputs[chosen] - mean) / scale, answers[chosen])
    return float(model.score((asked - mean) / scale, given))


if __name__ == "__main__":
    main()
