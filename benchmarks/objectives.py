"""Steps of the pretext tasks against plain versions of their formulas.

python benchmarks/objectives.py [--proteins 8] [--sampling-proteins 24] [--rounds 3] [--width 512]
    [--quick] [TASK ...]

The plain versions list every pair and triple of edges, run the heads on concatenated residues, score
every edge, and read both views of SiamDiff with ESM-2. Encoder of either: ESM-2 8M with random weights,
frozen, and GearNet 6 x 512; crops of sample proteins, 100 residues long, 150 for SiamDiff and DiffPreT.
The batch is smaller than the study's 96 crops (16 for SiamDiff): every cost compared grows with it, but
the plain versions would not fit into memory. A step is the views, the forward and the backward pass. CPU
time of one thread, all taking turns in one process, medians; peak memory in a process of its own, above
what it started with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import torch
from made_up import chains, seconds
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.crop import window_mask
from esmgn_core.draws import Draws, SeededDraws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.model.joint import JointEncoder, TrainStep
from esmgn_core.protocols import GraphBuilder
from esmgn_datasets.sample import Sample
from esmgn_esm2.encoder import ESM2
from esmgn_fusion.serial import SerialFuser
from esmgn_gearnet.encoder import GearNet
from esmgn_gearnet.graph import RelationalGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.angles import classified
from esmgn_pretext.confidence import means
from esmgn_pretext.diffpret import DiffPreT
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance
from esmgn_pretext.edges import draw_from_each
from esmgn_pretext.heads import TupleMLP
from esmgn_pretext.multiview_contrast import MultiviewContrast
from esmgn_pretext.siamdiff import SiamDiff
from esmgn_pretext.walks import Walks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all if none")
    parser.add_argument("--proteins", type=int, default=8, help="crops; a quarter for SiamDiff and DiffPreT")
    parser.add_argument("--sampling-proteins", type=int, default=24, help="crops for walks and heads alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=512, help="of GearNet (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="GearNet 2 x 64, fewer crops")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - TASKS.keys():
        parser.error(f"no such task: {', '.join(unknown)}")
    if arguments.quick:
        arguments.proteins, arguments.sampling_proteins = 4, 4
    torch.set_num_threads(1)
    # Memory first: a process that is forked from one that has run backward passes cannot run its own.
    sampling(arguments.sampling_proteins, arguments.rounds)
    layers, width = (2, 64) if arguments.quick else (6, arguments.width)
    windows(arguments.sampling_proteins, arguments.rounds)
    heads(320 + layers * width, arguments.sampling_proteins, arguments.rounds)
    print(f"\nsteps with ESM-2 8M and GearNet {layers} x {width}")
    for name in arguments.tasks or TASKS:
        steps(name, layers, width, arguments.proteins, arguments.rounds)


def sampling(num_proteins: int, rounds: int) -> None:
    """Drawing 512 pairs and triples of edges in each crop of 100 residues."""
    batch = crops(num_proteins, 100)
    graph = RelationalGraph(RelationalGraph.Settings())(batch)
    print(f"drawing 512 walks in each of {num_proteins} crops of 100: {graph.num_edges} edges")
    for num_edges in (2, 3):
        print(f"  {int(Walks(graph, num_edges).ptr(batch.ptr)[-1]):,} walks of {num_edges} edges")
    for num_edges, kind in ((2, "pairs"), (3, "triples")):

        def numbered(num_edges: int = num_edges) -> None:
            walks = Walks(graph, num_edges)  # type: ignore[arg-type]  # 2 or 3
            draws = SeededDraws(0, 0, range(num_proteins))
            walks.edges(draw_from_each(draws, walks.ptr(batch.ptr), 512))

        def all_listed(num_edges: int = num_edges) -> None:
            draw_listed(batch, graph, num_edges, SeededDraws(0, 0, range(num_proteins)))

        report(kind, {"esmgn": numbered, "plain": all_listed}, rounds)


def windows(num_proteins: int, rounds: int) -> None:
    """Both views of contrast, windows of 50 of whole proteins, against cutting them from a whole graph."""
    batch = chains(num_proteins)
    print(f"\nviews of contrast of {num_proteins} proteins, {batch.num_residues} residues")
    contrast = MultiviewContrast(MultiviewContrast.Settings(), encoder_dim=8)

    def draws() -> Draws:
        return SeededDraws(0, 0, range(num_proteins))

    def parts() -> None:
        contrast.views(batch, RELATIONAL, draws())

    def whole() -> None:
        graph = RELATIONAL(batch)
        contrast.views(batch, lambda _: graph, draws())  # type: ignore[arg-type]  # all that is called

    report("views", {"esmgn": parts, "plain": whole}, rounds)


def heads(dim: int, num_proteins: int, rounds: int) -> None:
    """Forward and backward pass of the heads alone, on 512 tuples (256 pairs) of each crop."""
    print(f"\nheads on {num_proteins} crops of 100, width {dim}")
    residues = torch.randn(100 * num_proteins, dim, requires_grad=True)
    for name, arity, outputs in (("distance", 2, 1), ("angle", 3, 8), ("dihedral", 4, 8)):
        head = TupleMLP(dim, arity, dim, outputs, 2)
        index = torch.randint(len(residues), (arity, num_proteins * (256 if arity == 2 else 512)))

        def factored(head: TupleMLP = head, index: Tensor = index) -> None:
            head(residues, index).sum().backward()

        def concatenated(head: TupleMLP = head, index: Tensor = index) -> None:
            on_concatenated(head, residues, index).sum().backward()  # type: ignore[no-untyped-call]  # the library does not annotate it

        report(name, {"esmgn": factored, "plain": concatenated}, rounds)


def steps(name: str, layers: int, width: int, num_proteins: int, rounds: int) -> None:
    """One step of a task, and of its plain version with the same weights."""
    ours, plain = TASKS[name]
    long = name in ("siamdiff", "diffpret")
    batch = crops(max(2, num_proteins // 4), 150) if long else crops(num_proteins, 100)
    encoder = joint_encoder(layers, width)
    modules: dict[str, nn.Module] = {}
    for label, task in (("esmgn", ours), ("plain", plain)):
        torch.manual_seed(0)
        settings = task.Settings(crop_length=0)
        joined = TrainStep if label == "esmgn" else EachView
        modules[label] = joined(encoder, task(settings, encoder_dim=encoder.output_dim), RELATIONAL)

    def step(module: nn.Module) -> float:
        module.zero_grad(set_to_none=True)
        output: TaskOutput = module(batch, SeededDraws(0, 0, range(len(batch))))
        output.loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return float(output.loss.detach())

    runs = {label: lambda module=module: step(module) for label, module in modules.items()}
    report(f"{name}, {len(batch)} crops", runs, rounds)


def report(title: str, runs: dict[str, Callable[[], object]], rounds: int) -> None:
    peaks = {label: peak_bytes(run) for label, run in runs.items()}
    taken = seconds(runs, rounds)
    for label in runs:
        print(
            f"{title:>22} {label:>6} {1e3 * taken[label]:10.1f} ms {peaks[label] / 1e9:7.2f} GB", flush=True
        )
    print(f"{title:>22} {'':>6} {taken['plain'] / taken['esmgn']:10.1f} x")


def peak_bytes(run: Callable[[], object]) -> int:
    """How much the largest memory of a process grows while it runs something."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def measured(pipe: Connection) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        pipe.send(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))

    process = context.Process(target=measured, args=(sending,))
    process.start()
    grown: int = receiving.recv() if receiving.poll(600) else 0
    process.join()
    return grown


def crops(count: int, length: int) -> ProteinBatch:
    """The first ``length`` residues of sample proteins, which are as dense in edges as real ones."""
    sample = Sample(Sample.Settings(num_proteins=count, min_length=length))
    batch = ProteinBatch.from_proteins([sample[number] for number in range(count)])
    return batch.select(window_mask(batch, torch.zeros_like(batch.lengths), length))


RELATIONAL = RelationalGraph(RelationalGraph.Settings())


def joint_encoder(layers: int, width: int) -> JointEncoder:
    torch.manual_seed(0)
    sequence = ESM2(ESM2.Settings(num_layers=6, embed_dim=320, attention_heads=20, weights="random"))
    structure = GearNet(GearNet.Settings(num_layers=layers, hidden_dim=width), input_dim=320, num_relations=7)
    fuser = SerialFuser(SerialFuser.Settings(), sequence_dim=320, structure_dim=structure.output_dim)
    return JointEncoder(sequence, structure, fuser).freeze_sequence().train()


class EachView(TrainStep):
    """A step that encodes every view on its own."""

    def forward(self, batch: ProteinBatch, draws: Draws) -> TaskOutput:
        with torch.no_grad():
            views = self.task.views(batch, self.build_graph, draws)
        return self.task.loss(views, [self.encoder(view.batch, view.graph) for view in views])


def follow(ends: Tensor, starts: Tensor, num_residues: int) -> tuple[Tensor, Tensor]:
    """Every pair (a, b) with ``ends[a] == starts[b]``."""
    order = ends.argsort()
    count = ends.bincount(minlength=num_residues)
    first = count.cumsum(0) - count
    after = torch.arange(len(starts)).repeat_interleave(count[starts])
    part = count[starts]
    place = torch.arange(len(after)) - (part.cumsum(0) - part).repeat_interleave(part)
    return order[first[starts].repeat_interleave(part) + place], after


def draw_listed(batch: ProteinBatch, graph: ResidueGraph, num_edges: int, draws: Draws) -> Tensor:
    """512 walks of each protein from the list of all, the line graph (of the line graph)."""
    source, target = graph.edge_index
    one, two = follow(target, source, batch.num_residues)
    kept = source[one] != target[two]
    walks = torch.stack([one[kept], two[kept]])
    if num_edges == 3:
        first, second = follow(walks[1], walks[0], graph.num_edges)
        walks = torch.stack([walks[0, first], walks[1, first], walks[1, second]])
    protein = batch.protein_index[source[walks[0]]]
    order = protein.argsort()
    count = protein.bincount(minlength=len(batch))
    ptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return walks[:, order[draw_from_each(draws, ptr, 512)]]


def mlp(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    for number, layer in enumerate(layers):
        inputs = layer(functional.relu(inputs) if number else inputs)
    return inputs


def on_concatenated(head: TupleMLP, residues: Tensor, index: Tensor) -> Tensor:
    return mlp([head.first, *head.layers], torch.cat([residues[member] for member in index], dim=1))


class PlainDistance(Distance):
    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        predicted = on_concatenated(self.head, encodings[0].residue, views[0].targets["pair"]).squeeze(1)
        return means((predicted - views[0].targets["distance"]).square(), {})


class _PlainWalks:
    num_edges = 2

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        graph = build_graph(batch)
        return (self.view_without(batch, graph, draw_listed(batch, graph, self.num_edges, draws)),)  # type: ignore[attr-defined]  # a member of the class that is measured

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        targets = views[0].targets
        scores = on_concatenated(self.head, encodings[0].residue, targets["residues"])  # type: ignore[attr-defined]  # a member of the class that is measured
        return classified(scores, targets["angle_class"])


class PlainAngle(_PlainWalks, Angle):
    pass


class PlainDihedral(_PlainWalks, Dihedral):
    num_edges = 3


class _PlainDenoising:
    """Scores, their vectors and the loss edge by edge."""

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        heads = self.denoiser  # type: ignore[attr-defined]  # a member of the class that is measured
        total = encodings[0].residue.new_zeros(())
        for view, encoding in zip(views, reversed(encodings), strict=True):
            source, target = view.graph.edge_index
            rows, ca = encoding.residue, view.batch.ca
            apart = ca[source] - ca[target]
            length = apart.norm(dim=1)
            of_distance = mlp(heads.pair_score.distance.layers, length.unsqueeze(1))
            inputs = torch.cat([rows[source] * rows[target], of_distance], dim=1)
            score = mlp(heads.pair_score.struct.layers, inputs)
            pull = (score - asked(view).unsqueeze(1)) * apart / (length.unsqueeze(1) + 1e-10)
            zeros = pull.new_zeros(len(rows), 3)
            out, into = (zeros.index_add(0, ends, pull) for ends in (source, target))
            vector = out / source.bincount().unsqueeze(1) - into / target.bincount().unsqueeze(1)
            structure = per_protein(vector.square().sum(dim=1), view.batch.protein_index)
            types = mlp(heads.residue_type.layers, rows[view.targets["residue"]])
            losses = functional.cross_entropy(types, view.targets["residue_type"], reduction="none")
            sequence = per_protein(losses, view.batch.protein_index[view.targets["residue"]])
            total = total + 0.5 * (structure + sequence) / len(views)
        return TaskOutput(total, len(views[0].batch))


def asked(view: View) -> Tensor:
    """The asked score of every edge, 0 of self-loops."""
    keys = view.targets["pair"][0] << 32 | view.targets["pair"][1]
    low, high = view.graph.edge_index.amin(0), view.graph.edge_index.amax(0)
    order = keys.argsort()
    place = torch.searchsorted(keys[order], low << 32 | high).clamp(max=len(keys) - 1)
    return view.targets["score"][order[place]].masked_fill(low == high, 0)


def per_protein(values: Tensor, protein: Tensor) -> Tensor:
    count = protein.bincount()
    return (values.new_zeros(len(count)).index_add(0, protein, values) / count.clamp(min=1)).mean()


class PlainSiamDiff(_PlainDenoising, SiamDiff):
    pass


class PlainDiffPreT(_PlainDenoising, DiffPreT):
    pass


TASKS = {
    "distance": (Distance, PlainDistance),
    "angle": (Angle, PlainAngle),
    "dihedral": (Dihedral, PlainDihedral),
    "siamdiff": (SiamDiff, PlainSiamDiff),
    "diffpret": (DiffPreT, PlainDiffPreT),
}
"""Residue type and contrast have no plain version that differs from theirs."""


if __name__ == "__main__":
    main()
