"""GearNet against the scatter form of its formula, the sparse product the original runs, and PyG.

python benchmarks/gearnet.py [--crops 93] [--length 100] [--dim 512] [--layers 6] [--rounds 7] [--quick]

Made-up proteins; CPU time of one thread, all taking turns in one process, medians. The floor is one
matrix product (N, R d) x (R d, k) forward, three of them forward and backward. Peaks of memory are those of
a process forked for one step; features and graph are not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from made_up import chains, crops, seconds
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_gearnet.conv import RelationalConv
from esmgn_gearnet.encoder import GearNet
from esmgn_gearnet.graph import RelationalGraph
from esmgn_gearnet.neighborhoods import Neighborhoods

Sums = Callable[[ResidueGraph, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--crops", type=int, default=93, help="proteins (default: %(default)s)")
    parser.add_argument("--length", type=int, default=100, help="residues each; 0 for whole chains")
    parser.add_argument("--dim", type=int, default=512, help="width (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small and short")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.crops, arguments.layers, arguments.rounds = 12, 2, 3
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = crops(arguments.crops, arguments.length) if arguments.length else chains(arguments.crops)
    graph = RelationalGraph(RelationalGraph.Settings())(batch)
    print(f"{batch.num_residues} residues, {graph.num_edges} edges, width {arguments.dim}")
    peak = gemm_rate(batch.num_residues, graph.num_relations * arguments.dim, arguments.dim)
    print(f"matrix product of this size: {peak / 1e9:.0f} GF/s\n")
    layer(batch, graph, arguments.dim, arguments.rounds)
    net(batch, graph, arguments.dim, arguments.layers, max(3, arguments.rounds // 2))


def layer(batch: ProteinBatch, graph: ResidueGraph, dim: int, rounds: int) -> None:
    """One convolution: the linear part, without normalisation."""
    conv = RelationalConv(dim, dim, graph.num_relations)
    neighborhoods = Neighborhoods(graph, batch.num_residues)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "esmgn": partial(conv.update, neighborhoods),
        "sparse product": lambda x: conv.linear(sparse_sums(graph, x)) + conv.self_loop(x),
        "scatter": lambda x: conv.linear(scatter_sums(graph, x)) + conv.self_loop(x),
    }
    if (pyg := pyg_conv(graph, dim)) is not None:
        variants["PyG RGCNConv"] = pyg
    features = torch.randn(batch.num_residues, dim, requires_grad=True)
    gradient = torch.randn(batch.num_residues, dim)
    steps = {name: partial(step, run, features, gradient) for name, run in variants.items()}
    report("layer", floors(batch.num_residues, graph.num_relations * dim, dim), steps, rounds)


def net(batch: ProteinBatch, graph: ResidueGraph, dim: int, num_layers: int, rounds: int) -> None:
    """The whole encoder, index structures of the graph included."""
    settings = GearNet.Settings(hidden_dim=dim, num_layers=num_layers)
    encoder = GearNet(settings, input_dim=dim, num_relations=graph.num_relations)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "esmgn": lambda x: encoder(batch, graph, x).residue,
        "sparse product": lambda x: plain_net(encoder, batch, graph, sparse_sums, x),
        "scatter": lambda x: plain_net(encoder, batch, graph, scatter_sums, x),
    }
    if (pyg := pyg_net(encoder, graph, dim)) is not None:
        variants["PyG RGCNConv"] = pyg
    features = torch.randn(batch.num_residues, dim, requires_grad=True)
    gradient = torch.randn(batch.num_residues, num_layers * dim)
    steps = {name: partial(step, run, features, gradient) for name, run in variants.items()}
    floor = floors(batch.num_residues, graph.num_relations * dim, dim)
    report("net", {name: partial(repeat, run, num_layers) for name, run in floor.items()}, steps, rounds)
    outputs = [run(features).detach() for name, run in variants.items() if name != "PyG RGCNConv"]
    print(f"largest difference of outputs: {max(float((o - outputs[0]).abs().max()) for o in outputs):.1e}")
    print(f"{'':>16} {'GB kept for backward':>21} {'GB at the peak':>15}")
    for name, run in variants.items():
        kept = kept_bytes(run, features, encoder)
        peak = growth_at_peak(partial(steps[name], backward=True))
        print(f"{name:>16} {kept / 1e9:21.3f} {peak / 1e9:15.2f}")


def step(run: Callable[[Tensor], Tensor], features: Tensor, gradient: Tensor, *, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            run(features)
        return
    features.grad = None
    run(features).backward(gradient)


def floors(rows: int, inner: int, columns: int) -> dict[str, Callable[[], object]]:
    wide, weight, narrow = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(rows, columns)

    def forward() -> None:
        wide @ weight.T

    def both() -> None:
        forward()
        narrow @ weight
        narrow.T @ wide

    return {"forward": forward, "forward+backward": both}


def repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def gemm_rate(rows: int, inner: int, columns: int) -> float:
    run = floors(rows, inner, columns)["forward"]
    return 2 * rows * inner * columns / seconds({"": run}, 3)[""]


def report(
    title: str, floor: dict[str, Callable[[], object]], steps: dict[str, Callable[..., object]], rounds: int
) -> None:
    print(f"{title:>16} {'':>16} {'ms':>8} {'of floor':>9} {'esmgn is faster by':>19}")
    for direction, bound in floor.items():
        backward = direction != "forward"
        candidates = {name: partial(run, backward=backward) for name, run in steps.items()}
        times = seconds({"floor": bound, **candidates}, rounds)
        for name, taken in times.items():
            print(
                f"{direction:>16} {name:>16} {1e3 * taken:8.0f} {times['floor'] / taken:8.0%} "
                f"{taken / times['esmgn']:18.2f}x"
            )
    print()


def scatter_sums(graph: ResidueGraph, features: Tensor) -> Tensor:
    """One message per edge, scattered to its target and relation."""
    source, target = graph.edge_index
    group = (target * graph.num_relations + graph.relation).unsqueeze(1).expand(-1, features.shape[1])
    zeros = features.new_zeros(features.shape[0] * graph.num_relations, features.shape[1])
    return zeros.scatter_add(0, group, features[source]).view(features.shape[0], -1)


def sparse_sums(graph: ResidueGraph, features: Tensor) -> Tensor:
    """A sparse (N R, N) matrix, made and coalesced in every layer, times the features."""
    source, target = graph.edge_index
    group = target * graph.num_relations + graph.relation
    size = (features.shape[0] * graph.num_relations, features.shape[0])
    with torch.no_grad():
        adjacency = torch.sparse_coo_tensor(
            torch.stack([group, source]), features.new_ones(len(group)), size, check_invariants=False
        )
    return torch.sparse.mm(adjacency, features).view(features.shape[0], -1)


def plain_net(net: GearNet, batch: ProteinBatch, graph: ResidueGraph, sums: Sums, features: Tensor) -> Tensor:
    hidden, hiddens = features, []
    for conv, batch_norm in zip(net.layers, net.batch_norms, strict=True):
        update = conv.linear(sums(graph, hidden)) + conv.self_loop(hidden)
        update = functional.relu(conv.batch_norm(update))
        hidden = batch_norm(update + hidden)
        hiddens.append(hidden)
    return Encoding.from_residues(torch.cat(hiddens, dim=1), batch).residue


def pyg_conv(graph: ResidueGraph, dim: int) -> Callable[[Tensor], Tensor] | None:
    try:
        from torch_geometric.nn import RGCNConv
    except ImportError:
        return None
    conv = RGCNConv(dim, dim, graph.num_relations, aggr="add")
    return lambda x: conv(x, graph.edge_index, graph.relation)


def pyg_net(net: GearNet, graph: ResidueGraph, dim: int) -> Callable[[Tensor], Tensor] | None:
    """PyG's relational layers between GearNet's normalisations and short cuts."""
    convs = [pyg_conv(graph, dim) for _ in net.layers]

    def run(features: Tensor) -> Tensor:
        hidden, hiddens = features, []
        for pyg, conv, batch_norm in zip(convs, net.layers, net.batch_norms, strict=True):
            hidden = batch_norm(functional.relu(conv.batch_norm(pyg(hidden))) + hidden)
            hiddens.append(hidden)
        return torch.cat(hiddens, dim=1)

    return None if convs[0] is None else run


def growth_at_peak(run: Callable[[], object]) -> int:
    """Bytes by which the memory of a process grows while it runs, parameters' gradients included."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        run()
        theirs.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return int(ours.recv())


def kept_bytes(run: Callable[[Tensor], Tensor], features: Tensor, module: nn.Module) -> int:
    """Bytes of distinct tensors kept for the backward pass, but for parameters and the output."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        parts = [tensor._indices(), tensor._values()] if tensor.is_sparse else [tensor]
        for storage in (part.untyped_storage() for part in parts):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run(features)
    known = [*module.parameters(), *module.buffers(), output]
    return sum(kept.values()) - sum(kept.get(t.untyped_storage().data_ptr(), 0) for t in known)


if __name__ == "__main__":
    main()
