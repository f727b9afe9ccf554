"""Fmax on enzymes by heads on frozen encoders, against two baselines.

    python benchmarks/enzymes.py DATA [--init FOLDER ...] [--random SETTINGS ...] [--epochs 60] [--quick]

DATA holds ``labels/enzyme_backbone_ec.tsv`` (columns ``file``, ``ec``, ``split``; files relative to DATA).
Two tasks: the first digit of the EC number, and all its four levels as classes of their own. Encoders are
frozen: random ones, each with the settings of its ``--random``, and those of the folders given (runs, or
imported weights). Each protein is encoded once; features are standardised by the training proteins; a head
of two layers is trained on them, its learning rate and epoch chosen on the validation proteins. So is one on
``residue counts`` alone, 21 numbers. ``majority`` scores classes by their share among the training proteins;
``nearest 3-mers`` by the most similar training protein that has the class (cosine of 3-mer counts).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esmgn_core.alphabet import UNKNOWN
from esmgn_core.batch import ProteinBatch
from esmgn_core.engine.evaluate import Predictions, score_with_intervals
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_datasets.table import Table
from esmgn_downstream.multilabel import Multilabel

TASKS = {"first digit": 1, "four levels": 4}
SPLITS = ("train", "valid", "test")
BATCH = 8
RATES = (1e-4, 1e-3)
RANDOM = "seq.name=esm2_8m seq.weights=random struct.name=gearnet"


@dataclass(frozen=True)
class Part:
    """Proteins of one split: indices in the dataset, and labels."""

    indices: list[int]
    labels: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--init", type=Path, action="append", default=[], help="folder with an encoder")
    parser.add_argument(
        "--random",
        action="append",
        metavar="SETTINGS",
        help=f"an encoder of random weights, settings as after --set, with spaces between them; '{RANDOM}'",
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="60 proteins, 5 epochs, 100 resamples")
    arguments = parser.parse_args()
    epochs, resamples = (5, 100) if arguments.quick else (arguments.epochs, 1000)
    with tempfile.TemporaryDirectory() as folder:
        datasets = {
            name: read(arguments.data, levels, Path(folder), quick=arguments.quick)
            for name, levels in TASKS.items()
        }
    any_dataset = next(iter(datasets.values()))
    started = time.process_time()
    features = {"residue counts": counted(any_dataset)}
    for text in arguments.random or [RANDOM]:
        features[f"random `{text}`, frozen"] = encode(any_dataset, settings=text.split())
    features |= {f"`{path}`, frozen": encode(any_dataset, folder=path) for path in arguments.init}
    sizes = " / ".join(str(len(part.indices)) for part in parts(any_dataset).values())
    print(f"{sizes} proteins; test scores with 95 % intervals\n")
    print("| task | classes | scores by | Fmax | AUPR micro |")
    print("|---|---|---|---|---|")
    for name, dataset in datasets.items():
        split = parts(dataset)
        rows = {"majority": majority(split), "nearest 3-mers": nearest(dataset, split)}
        rows |= {f"head on {who}": head(given, split, epochs=epochs) for who, given in features.items()}
        for who, scores in rows.items():
            print(f"| {name} | {len(dataset.label_names)} | {who} | {scored(scores, split, resamples)} |")
    print(f"\n{time.process_time() - started:.0f} s of processor time")


def read(data: Path, levels: int, folder: Path, *, quick: bool) -> Table:
    """The table with the first ``levels`` levels of each EC number as classes."""
    with (data / "labels" / "enzyme_backbone_ec.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    lines = ["file\tlabel\tsplit"]
    for row in rows[:: len(rows) // 60] if quick else rows:
        numbers = [number.strip().split(".") for number in row["ec"].replace(";", ",").split(",")]
        classes = {
            ".".join(number[:level])
            for number in numbers
            for level in range(1, levels + 1)
            if "-" not in number[:level]
        }
        lines.append(f"{row['file']}\t{','.join(sorted(classes))}\t{row['split']}")
    table = folder / f"{levels}.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Table(Table.Settings(table=table, structures=data))


def parts(dataset: Table) -> dict[str, Part]:
    indices = {
        "train": dataset.split("train"),
        "valid": dataset.split("valid"),
        "test": dataset.test_sets["test"],
    }
    return {name: Part(list(rows), dataset.labels(rows)) for name, rows in indices.items()}


def counted(dataset: Table) -> Tensor:
    """How often each residue type occurs, float32 [P, 21]."""
    types = (dataset[index].residue_type for index in range(len(dataset)))
    return torch.stack([each.bincount(minlength=UNKNOWN + 1)[: UNKNOWN + 1].float() for each in types])


def encode(dataset: Table, *, settings: list[str] | None = None, folder: Path | None = None) -> Tensor:
    """Protein representations of all proteins, [P, D], by a frozen encoder."""
    registry = discover()
    source = EncoderFolder(folder) if folder else None
    layer = source.tables() if source else parse_assignments(["fuse.name=serial", *(settings or ())])
    blueprint = resolve(registry, configure(registry, [layer, {"optim": {"seq_lr_scale": 0}}]))
    encoder, graph = blueprint.encoder().eval(), blueprint.graph()
    if source:
        source.fill(encoder, registry)
    order = sorted(range(len(dataset)), key=lambda index: dataset.lengths[index])
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = ProteinBatch.from_proteins([dataset[row] for row in rows])
            found |= dict(zip(rows, encoder(batch, graph(batch)).protein, strict=True))
    return torch.stack([found[index] for index in range(len(dataset))])


def head(features: Tensor, split: dict[str, Part], *, epochs: int) -> Tensor:
    """Test scores of a head trained on the features, at the rate and epoch of the best validation Fmax."""
    known = features[split["train"].indices]
    scale = known.std(0).clamp(min=1e-6)
    inputs = {name: (features[part.indices] - known.mean(0)) / scale for name, part in split.items()}
    return max(
        (trained(inputs, split, rate=rate, epochs=epochs) for rate in RATES), key=lambda item: item[0]
    )[1]


def trained(
    inputs: dict[str, Tensor], split: dict[str, Part], *, rate: float, epochs: int
) -> tuple[float, Tensor]:
    """Best validation Fmax, and the test scores of its epoch."""
    torch.manual_seed(0)
    (num_known, width), num_targets = inputs["train"].shape, split["train"].labels.shape[1]
    task = Multilabel(
        Multilabel.Settings(num_layers=2, dropout=0.2), encoder_dim=width, num_targets=num_targets
    )
    optimizer = torch.optim.Adam(task.parameters(), lr=rate, weight_decay=1e-4)
    best, kept = -1.0, torch.zeros_like(split["test"].labels)
    for _ in range(epochs):
        task.train()
        for rows in torch.randperm(num_known).split(32):
            logits = task.head(inputs["train"][rows])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, split["train"].labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        task.eval()
        with torch.no_grad():
            valid, test = task.head(inputs["valid"]), task.head(inputs["test"])
        score = task.score(valid, split["valid"].labels, torch.arange(len(valid)))["f_max"]
        if score > best:
            best, kept = score, test
    return best, kept


def majority(split: dict[str, Part]) -> Tensor:
    return split["train"].labels.mean(0).expand(len(split["test"].indices), -1)


def nearest(dataset: Table, split: dict[str, Part]) -> Tensor:
    counts = {name: [Counter(triples(dataset, row)) for row in part.indices] for name, part in split.items()}
    words = {word: place for place, word in enumerate({w for each in counts["train"] for w in each})}
    known, asked = (vectors(counts[name], words) for name in ("train", "test"))
    similarity = torch.from_numpy(asked @ known.T)
    has = split["train"].labels.T.bool()
    return torch.stack([similarity.masked_fill(~row, 0.0).max(1).values for row in has], dim=1)


def triples(dataset: Table, index: int) -> Iterator[str]:
    sequence = dataset[index].sequence
    return (sequence[first : first + 3] for first in range(len(sequence) - 2))


def vectors(counts: list[Counter[str]], words: dict[str, int]) -> np.ndarray:
    """Counts of known words, of length 1 for each protein."""
    rows = np.zeros((len(counts), len(words)), dtype=np.float32)
    for row, each in zip(rows, counts, strict=True):
        for word, count in each.items():
            if word in words:
                row[words[word]] = count
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def scored(scores: Tensor, split: dict[str, Part], resamples: int) -> str:
    labels = split["test"].labels
    found = Predictions.named(scores, labels, [f"p{number}" for number in range(len(labels))])
    task = Multilabel(Multilabel.Settings(num_layers=1), encoder_dim=1, num_targets=labels.shape[1])
    report = score_with_intervals(task, found, resamples)
    return " | ".join(
        f"{numbers['value']:.3f} ({numbers['low']:.3f} to {numbers['high']:.3f})"
        if "low" in numbers
        else f"{numbers['value']:.3f}"
        for numbers in (report["f_max"], report["aupr_micro"])
    )


if __name__ == "__main__":
    main()
