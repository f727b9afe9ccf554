"""Building GearNet's residue graph, against per-protein ``torch.cdist`` and ``topk``.

python benchmarks/graph.py [FOLDER] [--chains 24] [--crops 96] [--rounds 15] [--quick]

Proteins are made up, but for whole chains from a folder of structure files; CPU time of
one thread, the two taking turns in one process, medians.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from made_up import chains, crops, seconds
from torch import Tensor

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.io import find_structures, iter_structures
from esmgn_gearnet.graph import RelationalGraph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="structure files to take whole chains from")
    parser.add_argument("--chains", type=int, default=24, help="full chains (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=96, help="crops of 100 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="few proteins, few rounds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.chains, arguments.crops, arguments.rounds = 4, 16, 3
    torch.set_num_threads(1)
    print(f"{'batch':>16} {'residues':>8} {'edges/res':>9} {'esmgn ms':>9} {'cdist ms':>9} {'ratio':>6}")
    batches = {
        f"{arguments.chains} chains": from_folder(arguments)
        if arguments.folder
        else chains(arguments.chains),
        f"{arguments.crops} crops of 100": crops(arguments.crops, 100),
        f"{arguments.crops // 2} crops of 50": crops(arguments.crops // 2, 50),
    }
    for name, batch in batches.items():
        compare(name, batch, arguments.rounds)


def from_folder(arguments: argparse.Namespace) -> ProteinBatch:
    """Proteins of 50 to 1,200 residues."""
    proteins = (
        item for item in iter_structures(find_structures([arguments.folder])) if isinstance(item, Protein)
    )
    fitting = (item for item in proteins if 50 <= len(item) <= 1200)
    return ProteinBatch.from_proteins([*itertools.islice(fitting, arguments.chains)])


def compare(name: str, batch: ProteinBatch, rounds: int) -> None:
    build = RelationalGraph(RelationalGraph.Settings(max_radius_neighbors=0))
    ours, theirs = build(batch), per_protein(batch)
    # cdist rounds otherwise: pairs at the very radius, and neighbours equally far, may differ.
    if abs(ours.num_edges - theirs.num_edges) > 3e-4 * ours.num_edges:
        raise SystemExit(f"{name}: {ours.num_edges} edges, expected {theirs.num_edges}")
    times = seconds({"ours": lambda: build(batch), "theirs": lambda: per_protein(batch)}, rounds)
    print(
        f"{name:>16} {batch.num_residues:8d} {ours.num_edges / batch.num_residues:9.1f} "
        f"{1e3 * times['ours']:9.1f} {1e3 * times['theirs']:9.1f} {times['theirs'] / times['ours']:6.2f}"
    )


def per_protein(batch: ProteinBatch) -> ResidueGraph:
    """The graph as one writes it at first: protein by protein, all distances."""
    edges: list[list[Tensor]] = [[] for _ in range(7)]
    for first, end in itertools.pairwise(batch.ptr.tolist()):
        ca = batch.ca[first:end]
        row = torch.arange(end - first)
        for offset in range(-2, 3):
            source = row[max(0, -offset) : len(row) - max(0, offset)]
            edges[offset + 2].append(torch.stack([source, source + offset]) + first)
        distance = torch.cdist(ca, ca)
        center, neighbor = (distance < 10.0).nonzero(as_tuple=True)
        nearest = distance.topk(min(11, len(row)), largest=False).indices
        pairs = [(neighbor, center), (nearest.flatten(), row.repeat_interleave(nearest.shape[1]))]
        for number, (source, target) in enumerate(pairs, start=5):
            apart = (source - target).abs() >= 5
            edges[number].append(torch.stack([source[apart], target[apart]]) + first)
    joined = [torch.cat(part, dim=1) for part in edges]
    relation = torch.cat([torch.full((part.shape[1],), r) for r, part in enumerate(joined)])
    source, target = torch.cat(joined, dim=1)
    order = ((target * 7 + relation) * batch.num_residues + source).argsort()
    return ResidueGraph(torch.stack([source[order], target[order]]), relation[order], 7)


if __name__ == "__main__":
    main()
