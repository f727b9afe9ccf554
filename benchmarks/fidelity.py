"""What the differences from the original amount to, on sample proteins.

python benchmarks/fidelity.py [--proteins 48]

Counts behind the figures of docs/fidelity.md. Nothing is trained.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from esmgn_core.alphabet import MASKED
from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import View
from esmgn_datasets.sample import Sample
from esmgn_gearnet.graph import RelationalGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance
from esmgn_pretext.edges import pair_keys
from esmgn_pretext.residue_type import ResidueType
from esmgn_pretext.siamdiff import SiamDiff


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--proteins", type=int, default=48)
    num_proteins = parser.parse_args().proteins
    sample = Sample(Sample.Settings(num_proteins=num_proteins, min_length=100))
    batch = ProteinBatch.from_proteins([sample[number] for number in range(num_proteins)])
    build_graph = RelationalGraph(RelationalGraph.Settings())
    draws = SeededDraws(0, 0, range(num_proteins))
    print(f"{num_proteins} sample proteins, {batch.num_residues} residues, crops as in the recipes")

    (view,) = ResidueType(ResidueType.Settings(), encoder_dim=1).views(batch, build_graph, draws)
    masked = (view.batch.residue_type == MASKED).float().mean()
    print(f"residue_type: 15 % drawn with replacement masks {masked:.1%}")
    for name, task in (("distance", Distance), ("angle", Angle), ("dihedral", Dihedral)):
        (view,) = task(task.Settings(), encoder_dim=1).views(batch, build_graph, draws)
        asked, steps = asked_pairs(view), len(next(iter(view.targets.values()))) - 1
        loops = (asked[0] == asked[1]).view(steps, -1).any(dim=0).float().mean()
        left = (
            torch.isin(pair_keys(asked), pair_keys(view.graph.edge_index))[asked[0] != asked[1]]
            .float()
            .mean()
        )
        print(
            f"{name}: {loops:.1%} ask about a self-loop; {left:.1%} of the others leave an edge of their pair"
        )

    views = SiamDiff(SiamDiff.Settings(), encoder_dim=1).views(batch, build_graph, draws)
    edges, pairs = (sum(counts) for counts in zip(*map(edges_and_pairs, views), strict=True))
    print(f"siamdiff: {edges / pairs:.2f} edges, self-loops included, for each pair that is scored")


def asked_pairs(view: View) -> Tensor:
    """Ends of the edges that were asked about, int64 [2, S], the steps of a walk one after the other."""
    residues = next(iter(view.targets.values()))
    walk = residues[[0, 1, 3, 2]] if len(residues) == 4 else residues
    return torch.stack([walk[:-1].flatten(), walk[1:].flatten()])


def edges_and_pairs(view: View) -> tuple[int, int]:
    return view.graph.num_edges, view.targets["pair"].shape[1]


if __name__ == "__main__":
    main()
