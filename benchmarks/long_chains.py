"""A long chain and a complex of many chains through every structure encoder and every fusion.

python benchmarks/long_chains.py [--length 5000] [--chains 40] [--encoders NAME ...] [--fusions NAME ...]

Each pair of encoder and fusion takes a forward pass and a training step in a process of its own; printed
are CPU seconds of one thread and the peak of memory. Proteins are made up. Nothing is truncated: a residue
without a representation of finite numbers ends the run. ESM-2 has 2 layers; encoders have their default
sizes, or layers of --dim.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from made_up import chain, protein

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.compose import draw_up
from esmgn_core.configure import configure
from esmgn_core.registry import discover
from esmgn_core.spec import Kind

WIDTHS = {"gvp": {"scalar_dim": 64}, "cdconv": {"hidden_dims": [64, 128, 256, 512]}}


def main() -> None:
    arguments = parsed()
    if arguments.one:
        print(measured(arguments))
        return
    print(f"{'encoder':>16} {'fusion':>9} {'input':>8} {'forward s':>10} {'step s':>8} {'peak GB':>8}")
    failed = False
    for encoder in arguments.encoders:
        for fusion in arguments.fusions:
            for name in arguments.inputs:
                options = [f"--{key}={getattr(arguments, key)}" for key in ("length", "chains", "dim")]
                command = [sys.executable, __file__, "--one", "--encoders", encoder, "--fusions", fusion]
                done = subprocess.run(  # noqa: S603 - this script itself
                    [*command, "--inputs", name, *options], capture_output=True, text=True, check=False
                )
                failed |= done.returncode != 0
                text = done.stdout.strip() or f"failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}"
                print(f"{encoder:>16} {fusion:>9} {name:>8} {text}", flush=True)
    raise SystemExit(int(failed))


def parsed() -> argparse.Namespace:
    registry = discover()
    encoders, fusions = ([spec.name for spec, _ in registry.components(k)] for k in (Kind.STRUCT, Kind.FUSE))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--length", type=int, default=5000, help="residues of either (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=40, help="chains of the complex (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=0, help="width of encoders in place of their default")
    parser.add_argument("--encoders", nargs="+", default=encoders, choices=encoders, metavar="NAME")
    parser.add_argument("--fusions", nargs="+", default=fusions, choices=fusions, metavar="NAME")
    parser.add_argument("--inputs", nargs="+", default=["chain", "complex"], choices=["chain", "complex"])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> str:
    """One line of the table."""
    torch.set_num_threads(1)
    registry, struct = discover(), arguments.encoders[0]
    width = WIDTHS.get(struct, {"hidden_dim": arguments.dim}) if arguments.dim else {}
    tables = {
        "seq": {"name": "esm2_tiny"},
        "struct": {"name": struct, **width},
        "fuse": {"name": arguments.fusions[0]},
    }
    blueprint = draw_up(registry, configure(registry, [tables]))
    encoder, build_graph = blueprint.encoder(), blueprint.graph()
    num_chains = arguments.chains if arguments.inputs[0] == "complex" else 1
    batch = ProteinBatch.from_proteins([complex_of(arguments.length, num_chains)])

    start = time.process_time()
    with torch.no_grad():
        encoding = encoder.eval()(batch, build_graph(batch))
    forward = time.process_time() - start
    if encoding.residue.shape[0] != batch.num_residues or not encoding.residue.isfinite().all():
        raise SystemExit("a residue has no representation")
    start = time.process_time()
    encoding = encoder.train()(batch, build_graph(batch))
    (encoding.residue.square().mean() + encoding.protein.square().mean()).backward()
    step = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return f"{forward:10.1f} {step:8.1f} {peak:8.2f}"


def complex_of(length: int, num_chains: int) -> Protein:
    """A made-up chain cut into ``num_chains`` chains."""
    whole = protein(chain(length, seed=0))
    whole.chain_index.copy_(torch.arange(length) * num_chains // length)
    return whole


if __name__ == "__main__":
    main()
