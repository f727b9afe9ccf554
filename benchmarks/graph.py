"""Building GearNet's residue graph, against scipy's k-d tree and ``torch.cdist`` with ``topk``.

python benchmarks/graph.py [FOLDER] [--chains 24] [--crops 96] [--rounds 15] [--quick]

Proteins are made up, or chains from a folder of structure files. CPU time of one thread, all
taking turns in one process, medians. The others search protein by protein and draw the same
edges. Each is timed three times: sorted as a graph's edges are (ResidueGraph.from_edges), not
sorted, and the search alone, against find_neighbors alone (whose edges are sorted). Each ratio is its
time over ours. torch_cluster takes part where it is installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from made_up import chains, crops, seconds
from scipy.spatial import cKDTree
from torch import Tensor

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.io import find_structures, iter_structures
from esmgn_core.neighbors import find_neighbors
from esmgn_gearnet.graph import RelationalGraph

RADIUS, NEAREST, SEPARATION = 10.0, 10, 5

Found = tuple[Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="structure files to take chains from")
    parser.add_argument("--chains", type=int, default=24, help="full chains (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=96, help="crops of 100 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="few proteins, few rounds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.chains, arguments.crops, arguments.rounds = 4, 16, 3
    torch.set_num_threads(1)
    for name, batch in batches(arguments):
        compare(name, batch, arguments.rounds)


def batches(arguments: argparse.Namespace) -> Iterator[tuple[str, ProteinBatch]]:
    """Chains, crops of 100 and crops of 50."""
    sizes = {100: arguments.crops, 50: arguments.crops // 2}
    if not arguments.folder:
        yield f"{arguments.chains} chains", chains(arguments.chains)
        for length, count in sizes.items():
            yield f"{count} crops of {length}", crops(count, length)
        return
    whole = from_folder(arguments.folder, max(arguments.chains, *sizes.values()))
    first = torch.arange(whole.num_residues) < whole.ptr[min(arguments.chains, len(whole))]
    yield f"{min(arguments.chains, len(whole))} chains", alone(whole, first)
    for length, count in sizes.items():
        place = torch.arange(whole.num_residues) - whole.ptr[whole.protein_index]
        middle = (whole.lengths - length).clamp(min=0) // 2
        inside = (place >= middle[whole.protein_index]) & (place < middle[whole.protein_index] + length)
        crop = alone(whole, inside & (whole.protein_index < count))
        yield f"{len(crop)} crops of {length}", crop


def from_folder(folder: Path, count: int) -> ProteinBatch:
    """Proteins of 50 to 1,200 residues."""
    proteins = (item for item in iter_structures(find_structures([folder])) if isinstance(item, Protein))
    fitting = (item for item in proteins if 50 <= len(item) <= 1200)
    return ProteinBatch.from_proteins([*itertools.islice(fitting, count)])


def alone(batch: ProteinBatch, keep: Tensor) -> ProteinBatch:
    """Some residues of a batch, without proteins that have none of them."""
    kept = batch.select(keep)
    names = tuple(itertools.compress(kept.names, kept.lengths.bool().tolist()))
    return kept.replace(ptr=kept.ptr.unique(), names=names, labels=None)


def compare(name: str, batch: ProteinBatch, rounds: int) -> None:
    build = RelationalGraph(RelationalGraph.Settings(max_radius_neighbors=0))
    ours = "ours", "our search"
    candidates: dict[str, Callable[[], object]] = {
        ours[0]: lambda: build(batch),
        ours[1]: lambda: find_neighbors(batch, RADIUS, num_nearest=NEAREST, min_separation=SEPARATION),
    }
    for searcher, search in SEARCHERS.items():
        check(build(batch), ResidueGraph.from_edges(*per_protein(batch, search), 7), batch)
        candidates |= {
            f"{searcher}, sorted": functools.partial(sorted_graph, batch, search),
            f"{searcher}, not sorted": functools.partial(per_protein, batch, search),
            f"{searcher}, search alone": functools.partial(searched, batch, search),
        }
    times = seconds(candidates, rounds)
    number, edges = batch.num_residues, build(batch).num_edges
    print(f"{name}: {number} residues, {edges / number:.1f} edges a residue")
    for candidate, time in times.items():
        rival = times[ours["search" in candidate]]
        per_residue, ratio = 1e6 * time / number, time / rival
        print(f"{candidate:>30} {1e3 * time:8.1f} ms {per_residue:6.2f} us/residue {ratio:6.2f}")


def check(ours: ResidueGraph, theirs: ResidueGraph, batch: ProteinBatch) -> None:
    """The edges are the same, but where the rounding of distances decides.

    Such a pair is within 1e-3 angstrom of the radius, or of the target's tenth neighbor: far from
    the origin ``torch.cdist`` rounds as much.
    """
    ends = {tuple(edge) for edge in torch.cat([ours.edge_index, ours.relation[None]]).T.tolist()}
    others = {tuple(edge) for edge in torch.cat([theirs.edge_index, theirs.relation[None]]).T.tolist()}
    ca, ptr = batch.ca.double(), batch.ptr
    for source, target, relation in ends ^ others:
        protein = int(batch.protein_index[target])
        distance = (ca[ptr[protein] : ptr[protein + 1]] - ca[target]).norm(dim=1).sort().values
        limit = {5: RADIUS, 6: float(distance[min(NEAREST, len(distance) - 1)])}.get(relation, torch.nan)
        if not abs(float((ca[source] - ca[target]).norm()) - limit) < 1e-3:
            raise SystemExit(f"edge {source} -> {target}, relation {relation}: drawn by one of the two only")


def sorted_graph(batch: ProteinBatch, search: Callable[[Tensor], Found]) -> ResidueGraph:
    return ResidueGraph.from_edges(*per_protein(batch, search), 7)


def per_protein(batch: ProteinBatch, search: Callable[[Tensor], Found]) -> tuple[Tensor, Tensor]:
    """Edges and relations as one writes them at first: protein by protein."""
    row, run = torch.arange(batch.num_residues), batch.protein_index * 1000 + batch.chain_index
    edges = [torch.stack([row, row])]
    for offset in range(1, 3):
        first = row[:-offset][run[:-offset] == run[offset:]]
        forward = torch.stack([first, first + offset])
        edges = [forward.flip(0), *edges, forward]
    for part in zip(*searched(batch, search), strict=True):
        center, neighbor = torch.cat(part, dim=1)
        apart = (center - neighbor).abs() >= SEPARATION
        edges.append(torch.stack([neighbor[apart], center[apart]]))
    relation = torch.cat([torch.full((part.shape[1],), r) for r, part in enumerate(edges)])
    return torch.cat(edges, dim=1), relation


def searched(batch: ProteinBatch, search: Callable[[Tensor], Found]) -> list[Found]:
    """Pairs within the radius and nearest neighbors of each protein."""
    found = []
    for first, end in itertools.pairwise(batch.ptr.tolist()):
        close, near = search(batch.ca[first:end])
        found.append((close + first, near + first))
    return found


def with_cdist(ca: Tensor) -> Found:
    distance = torch.cdist(ca, ca)
    found = distance.topk(min(NEAREST + 1, len(ca)), largest=False).indices
    return (distance < RADIUS).nonzero().T, in_rows(found)


def with_kd_tree(ca: Tensor) -> Found:
    tree = cKDTree(ca.numpy())
    pairs = torch.from_numpy(tree.query_pairs(RADIUS, output_type="ndarray")).T
    found = tree.query(ca.numpy(), k=min(NEAREST + 1, len(ca)))[1]
    return torch.cat([pairs, pairs.flip(0)], dim=1), in_rows(torch.from_numpy(found).view(len(ca), -1))


def with_torch_cluster(ca: Tensor) -> Found:
    from torch_cluster import knn, radius

    return radius(ca, ca, RADIUS, max_num_neighbors=len(ca)), knn(ca, ca, NEAREST + 1)


def in_rows(found: Tensor) -> Tensor:
    """Center and neighbor of each entry of a table [n, k]."""
    return torch.stack([torch.arange(len(found)).repeat_interleave(found.shape[1]), found.flatten()])


SEARCHERS = {"cKDTree": with_kd_tree, "cdist and topk": with_cdist}
if importlib.util.find_spec("torch_cluster"):
    SEARCHERS["torch_cluster"] = with_torch_cluster


if __name__ == "__main__":
    main()
