"""A long chain and a complex of many chains through every structure encoder and every fusion.

python benchmarks/long_chains.py [--length 5000] [--chains 40] [--pairs ENCODER+FUSION ...]
                                 [--steps ENCODER+FUSION ...] [--seconds 100] [--memory 8]

Forward passes, as embedding takes them: every encoder under serial fusion, GearNet and GVP under every
fusion, each pair in a process of its own, on one chain and then on one complex. Training steps, forward and
backward on the chain: the pairs of --steps. Printed are CPU seconds of one thread and the process's peak of
memory, a third of a GB of which are its libraries. A process that takes longer, or more memory, than allowed
is ended, and the table says so. Encoders have their default sizes, ESM-2 has 2 layers, proteins are made up.
Nothing is truncated: a residue without a representation of finite numbers ends the run.
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from made_up import chain, protein
from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.spec import Kind

FUSED = ("gearnet", "gvp")
STEPS = ("gearnet+serial", "gearnet+cross", "gvp+serial")
TOO_LITTLE_MEMORY = 3


def main() -> None:
    arguments = parsed()
    if arguments.one:
        pass_through(arguments)
        return
    print(
        f"{'encoder':>16} {'fusion':>9} {'pass':>8} {'chain s':>8} {'complex s':>10} {'peak GB':>8}",
        flush=True,
    )
    failed = False
    with TemporaryDirectory() as folder:
        coordinates = Path(folder) / "chain.pt"
        torch.save(chain(arguments.length, seed=0), coordinates)
        for name, pairs in (("forward", arguments.pairs), ("step", arguments.steps)):
            for pair in pairs:
                failed |= not print_row(pair, name, coordinates, arguments)
    raise SystemExit(int(failed))


def parsed() -> argparse.Namespace:
    registry = discover()
    encoders, fusions = ([spec.name for spec, _ in registry.components(k)] for k in (Kind.STRUCT, Kind.FUSE))
    pairs = [f"{name}+serial" for name in encoders]
    pairs += [f"{name}+{fusion}" for name in FUSED for fusion in fusions if fusion != "serial"]
    known = [f"{name}+{fusion}" for name in encoders for fusion in fusions]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--length", type=int, default=5000, help="residues of either (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=40, help="chains of the complex (default: %(default)s)")
    parser.add_argument("--pairs", nargs="*", default=pairs, choices=known, metavar="ENCODER+FUSION")
    parser.add_argument("--steps", nargs="*", default=STEPS, choices=known, metavar="ENCODER+FUSION")
    parser.add_argument("--seconds", type=int, default=100, help="CPU seconds a row may take")
    parser.add_argument("--memory", type=int, default=8, help="GB a row may take")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def print_row(pair: str, name: str, coordinates: Path, arguments: argparse.Namespace) -> bool:
    """Run a pair in a process of its own; whether every residue was represented."""
    options = [f"--{key}={getattr(arguments, key)}" for key in ("length", "chains", "seconds", "memory")]
    done = subprocess.run(  # noqa: S603 - this script itself
        [sys.executable, __file__, "--one", pair, name, str(coordinates), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = {
        0: "",
        -signal.SIGXCPU: f"over {arguments.seconds} s",
        TOO_LITTLE_MEMORY: f"over {arguments.memory} GB",
    }.get(done.returncode, f"failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    encoder, fusion = pair.split("+")
    print(f"{encoder:>16} {fusion:>9} {name:>8} {done.stdout.rstrip()} {outcome}".rstrip(), flush=True)
    return not outcome.startswith("failed")


def pass_through(arguments: argparse.Namespace) -> None:
    """What is measured of one pair: seconds of each pass, then the peak of memory."""
    pair, name, coordinates = arguments.one
    torch.set_num_threads(1)
    torch.manual_seed(0)
    registry = discover()
    struct, fuse = pair.split("+")
    tables = {"seq": {"name": "esm2_tiny"}, "struct": {"name": struct}, "fuse": {"name": fuse}}
    blueprint = resolve(registry, configure(registry, [tables]))
    encoder, build_graph = blueprint.encoder(), blueprint.graph()
    ca = torch.load(coordinates)
    limit(arguments.seconds, arguments.memory)
    for num_chains in (1, arguments.chains) if name == "forward" else (1,):
        batch = ProteinBatch.from_proteins([complex_of(ca, num_chains)])
        start = time.process_time()
        try:
            if name == "forward":
                with torch.inference_mode():
                    encoding = encoder.eval()(batch, build_graph(batch))
            else:
                encoding = encoder.train()(batch, build_graph(batch))
                (encoding.residue.square().mean() + encoding.protein.square().mean()).backward()
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise SystemExit(TOO_LITTLE_MEMORY) from error
        print(f"{time.process_time() - start:{8 if num_chains == 1 else 10}.1f}", end=" ", flush=True)
        check(encoding, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{peak:{8 if name == 'forward' else 19}.2f}")


def limit(seconds: int, gigabytes: int) -> None:
    """End this process when it has taken so much more CPU time, or asks for more memory than that."""
    for what, most in (
        (resource.RLIMIT_CPU, int(time.process_time()) + seconds),
        (resource.RLIMIT_DATA, gigabytes * 10**9),
    ):
        resource.setrlimit(what, (most, resource.RLIM_INFINITY))


def check(encoding: Encoding, batch: ProteinBatch) -> None:
    if encoding.residue.shape[0] != batch.num_residues or not encoding.residue.isfinite().all():
        raise SystemExit("a residue has no representation")


def complex_of(ca: Tensor, num_chains: int) -> Protein:
    """A made-up chain cut into ``num_chains`` chains."""
    whole = protein(ca)
    whole.chain_index.copy_(torch.arange(len(ca)) * num_chains // len(ca))
    return whole


if __name__ == "__main__":
    main()
