"""Building GearNet's residue graph, against per-protein ``torch.cdist`` and ``topk``.

python benchmarks/graph.py [FOLDER] [--chains 24] [--crops 96] [--rounds 15] [--quick]

Proteins are made up, but for whole chains from a folder of structure files; CPU time of
one thread, all taking turns in one process, medians. Ours is sorted by target, relation and
source. The other is timed three times: sorted alike by one torch.argsort, sorted alike by our
own from_edges (NumPy), and not sorted at all. Each ratio is its time over ours.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable
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
    print(
        f"{'batch':>16} {'residues':>8} {'edges/res':>9} {'esmgn ms':>9}"
        + "".join(f"{name:>16}" for name in ("torch-sorted", "numpy-sorted", "not sorted"))
    )
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
    check(build(batch), per_protein(batch, sorted_by_numpy), batch)
    candidates: dict[str, Callable[[], object]] = {"ours": lambda: build(batch)}
    for sort in SORTS:
        candidates[sort.__name__] = functools.partial(per_protein, batch, sort)
    ours, *theirs = seconds(candidates, rounds).values()
    print(
        f"{name:>16} {batch.num_residues:8d} {build(batch).num_edges / batch.num_residues:9.1f} "
        f"{1e3 * ours:9.1f}" + "".join(f"{1e3 * time:9.1f} {time / ours:6.2f}" for time in theirs)
    )


def check(ours: ResidueGraph, theirs: ResidueGraph, batch: ProteinBatch) -> None:
    """The edges are the same, but where the rounding of ``torch.cdist`` decides.

    Such a pair is within 1e-4 angstrom of the radius, or of the target's tenth neighbour.
    """
    ends = {tuple(edge) for edge in torch.cat([ours.edge_index, ours.relation[None]]).T.tolist()}
    others = {tuple(edge) for edge in torch.cat([theirs.edge_index, theirs.relation[None]]).T.tolist()}
    ca, ptr = batch.ca.double(), batch.ptr
    for source, target, relation in ends ^ others:
        protein = int(batch.protein_index[target])
        distance = (ca[ptr[protein] : ptr[protein + 1]] - ca[target]).norm(dim=1).sort().values
        limit = {5: 10.0, 6: float(distance[min(10, len(distance) - 1)])}.get(relation, torch.nan)
        if not abs(float((ca[source] - ca[target]).norm()) - limit) < 1e-4:
            raise SystemExit(f"edge {source} -> {target}, relation {relation}: drawn by one of the two only")


def per_protein(batch: ProteinBatch, sort: Callable[[Tensor, Tensor], ResidueGraph]) -> ResidueGraph:
    """The graph as one writes it at first: protein by protein, all distances."""
    row, owner = torch.arange(batch.num_residues), batch.protein_index
    edges = [torch.stack([row, row])]
    for offset in range(1, 3):
        first = row[:-offset][owner[:-offset] == owner[offset:]]
        forward = torch.stack([first, first + offset])
        edges = [forward.flip(0), *edges, forward]
    radius: list[Tensor] = []
    nearest: list[Tensor] = []
    for first, end in itertools.pairwise(batch.ptr.tolist()):
        ca = batch.ca[first:end]
        distance = torch.cdist(ca, ca)
        radius.append((distance < 10.0).nonzero().T + first)
        found = distance.topk(min(11, end - first), largest=False).indices
        center = torch.arange(end - first).repeat_interleave(found.shape[1])
        nearest.append(torch.stack([center, found.flatten()]) + first)
    for part in (radius, nearest):
        center, neighbor = torch.cat(part, dim=1)
        apart = (center - neighbor).abs() >= 5
        edges.append(torch.stack([neighbor[apart], center[apart]]))
    relation = torch.cat([torch.full((part.shape[1],), r) for r, part in enumerate(edges)])
    return sort(torch.cat(edges, dim=1), relation)


def not_sorted(edge_index: Tensor, relation: Tensor) -> ResidueGraph:
    return ResidueGraph(edge_index, relation, 7)


def sorted_by_numpy(edge_index: Tensor, relation: Tensor) -> ResidueGraph:
    return ResidueGraph.from_edges(edge_index, relation, 7)


def sorted_by_torch(edge_index: Tensor, relation: Tensor) -> ResidueGraph:
    source, target = edge_index
    order = ((target * 7 + relation) * (int(target.max()) + 1) + source).argsort()
    return ResidueGraph(edge_index[:, order], relation[order], 7)


SORTS = (sorted_by_torch, sorted_by_numpy, not_sorted)


if __name__ == "__main__":
    main()
