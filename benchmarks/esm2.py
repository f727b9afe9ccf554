"""ESM-2 packed, against fair-esm and transformers in padded batches.

python benchmarks/esm2.py [--size 35m 150m] [--proteins 16] [--batch 8] [--rounds 3] [--bf16] [--quick]

Random weights, the same in all models. Two sets: lengths as in nature (log-normal, mean 300, 30 to 1022
residues) and crops of 100. CPU time of one thread, all taking turns in one process, medians; memory is
the peak of the process above what it held before. "of floor": share of the time that the model's own
matrix products would take if every token were in one call, without biases, attention and the rest; "of
peak": the same against the rate of a product of 2048 x 2048 matrices; "all of peak": the products of
attention, queries with keys and weights with values, counted too.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up import protein, seconds
from torch import Tensor, nn

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.tokens import CLS, EOS, token_table

SIZES = {
    "8m": {"num_layers": 6, "embed_dim": 320, "attention_heads": 20},
    "35m": {"num_layers": 12, "embed_dim": 480, "attention_heads": 20},
    "150m": {"num_layers": 30, "embed_dim": 640, "attention_heads": 20},
    "650m": {"num_layers": 33, "embed_dim": 1280, "attention_heads": 20},
}
PAD = 1
Run = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["35m", "150m"])
    parser.add_argument("--proteins", type=int, default=16, help="of each set (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="proteins in one call (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="also under bfloat16 autocast")
    parser.add_argument("--quick", action="store_true", help="8M, one round")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.rounds = ["8m"], 1
    torch.set_num_threads(1)
    for size in arguments.size:
        models = Models(SIZES[size])
        for title, proteins in sets(arguments.proteins):
            print(f"\nESM-2 {size.upper()}, {title}")
            with torch.inference_mode():
                compare(models, proteins, arguments)


def sets(count: int) -> Iterator[tuple[str, list[Protein]]]:
    generator = np.random.default_rng(0)
    sigma = 0.6
    mean = np.log(300) - sigma**2 / 2
    for title, lengths in (
        ("lengths as in nature", generator.lognormal(mean, sigma, count).clip(30, 1022).astype(int)),
        ("crops of 100", np.full(2 * count, 100)),
    ):
        yield f"{title}: {len(lengths)} proteins, {lengths.sum()} residues", list(map(made_up, lengths))


def made_up(length: int) -> Protein:
    return protein(torch.zeros(int(length), 3))


class Models:
    """One set of random weights in three implementations."""

    def __init__(self, size: dict[str, int]) -> None:
        torch.manual_seed(0)
        self.size = size
        self.ours = ESM2(ESM2.Settings(**size, weights="random")).eval()
        self.fair_esm = fair_esm(size, self.ours)
        self.transformers = transformers(size, self.ours)
        self.table = token_table("X")

    def runs(self, proteins: list[Protein], batch: int) -> dict[str, Run]:
        """What to measure: every run returns the representations of all residues in the same order."""
        by_length = sorted(proteins, key=len)
        runs = {
            "esmgn": self._runs(self._packed, proteins, batch),
            "fair-esm": self._runs(self._fair_esm, proteins, batch),
            "fair-esm, one by one": self._runs(self._fair_esm, proteins, 1),
        }
        if len(by_length[0]) < len(by_length[-1]):
            runs["fair-esm, sorted"] = self._runs(self._fair_esm, by_length, batch)
        if self.transformers is not None:
            runs["transformers"] = self._runs(self._transformers, proteins, batch)
        return runs

    def _runs(self, encode: Callable[[list[Protein]], Tensor], proteins: list[Protein], batch: int) -> Run:
        parts = [proteins[first : first + batch] for first in range(0, len(proteins), batch)]
        return lambda: torch.cat([encode(part) for part in parts])

    def _packed(self, proteins: list[Protein]) -> Tensor:
        return self.ours(ProteinBatch.from_proteins(proteins)).residue

    def _fair_esm(self, proteins: list[Protein]) -> Tensor:
        last = self.size["num_layers"]
        hidden = self.fair_esm(self._padded(proteins), repr_layers=[last])["representations"][last]
        return self._residues(hidden, proteins)

    def _transformers(self, proteins: list[Protein]) -> Tensor:
        tokens = self._padded(proteins)
        hidden = self.transformers(tokens, attention_mask=tokens != PAD).last_hidden_state
        return self._residues(hidden, proteins)

    def _padded(self, proteins: list[Protein]) -> Tensor:
        tokens = torch.full((len(proteins), max(map(len, proteins)) + 2), PAD)
        for row, one in zip(tokens, proteins, strict=True):
            row[0], row[len(one) + 1] = CLS, EOS
            row[1 : len(one) + 1] = self.table[one.residue_type]
        return tokens

    def _residues(self, hidden: Tensor, proteins: list[Protein]) -> Tensor:
        return torch.cat([row[1 : len(one) + 1] for row, one in zip(hidden, proteins, strict=True)])


def fair_esm(size: dict[str, int], ours: ESM2) -> nn.Module:
    from esm.model.esm2 import ESM2 as Theirs  # noqa: N811

    model = Theirs(**size).eval()
    model.load_state_dict(ours.model.state_dict(), strict=False)
    return model


_HUGGING_FACE = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "LayerNorm",
}


def transformers(size: dict[str, int], ours: ESM2) -> Any:
    """``EsmModel`` with attention through SDPA, or ``None`` where transformers is not installed."""
    try:
        from transformers import EsmConfig, EsmModel
    except ImportError:
        return None
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=PAD,
        hidden_size=size["embed_dim"], num_hidden_layers=size["num_layers"],
        num_attention_heads=size["attention_heads"], intermediate_size=4 * size["embed_dim"],
        position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
        layer_norm_eps=1e-5, attn_implementation="sdpa",
    )  # fmt: skip
    model = EsmModel(config, add_pooling_layer=False).eval()
    state = {}
    for name, tensor in ours.model.state_dict().items():
        if name == "embed_tokens.weight":
            state["embeddings.word_embeddings.weight"] = tensor
        elif name.startswith("emb_layer_norm_after"):
            state[f"encoder.{name}"] = tensor
        else:
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            state[f"encoder.layer.{number}.{_HUGGING_FACE[part]}.{kind}"] = tensor
    model.load_state_dict(state, strict=False)  # frequencies and the contact head have no counterpart
    return model


def compare(models: Models, proteins: list[Protein], arguments: argparse.Namespace) -> None:
    runs = models.runs(proteins, arguments.batch)
    num_residues = sum(map(len, proteins))
    num_tokens = num_residues + 2 * len(proteins)
    floor, peak = floors(models.size, num_tokens), square_product
    times = seconds({"floor": floor, "peak": peak, **runs}, arguments.rounds)
    blocks, width = models.size["num_layers"], models.size["embed_dim"]
    flops = 24 * blocks * width**2 * num_tokens
    of_attention = 4 * blocks * width * sum((len(one) + 2) ** 2 for one in proteins)
    rate = 2 * 2048**3 / times["peak"]
    own_rate = flops / times["floor"]
    print(f"matrix products: {own_rate / 1e9:.0f} GF/s in its own shapes, {rate / 1e9:.0f} GF/s at most")
    print(f"{'':>22} residues/s  of floor  of peak  all of peak  esmgn is faster by  memory", flush=True)
    outputs = {}
    for name, run in runs.items():
        taken = times[name]
        memory, outputs[name] = peak_bytes(run)
        print(
            f"{name:>22} {num_residues / taken:10.0f} {times['floor'] / taken:9.0%} "
            f"{flops / rate / taken:8.0%} {(flops + of_attention) / rate / taken:12.0%} "
            f"{taken / times['esmgn']:18.2f}x {memory / 1e6:4.0f} MB",
            flush=True,
        )
    expected = outputs["fair-esm"]
    for name in ("esmgn", "transformers"):
        if name in outputs:
            difference = (outputs[name] - expected).abs().max() / expected.abs().max()
            print(f"largest difference of {name} from fair-esm: {difference:.1e} of the largest value")
    if arguments.bf16:
        half_precision(runs["esmgn"], outputs["esmgn"], times["esmgn"], arguments.rounds)


def half_precision(run: Run, expected: Tensor, single: float, rounds: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        taken = seconds({"": run}, rounds)[""]
        found = run()
    difference = (found - expected).norm() / expected.norm()
    print(f"bfloat16 autocast: {single / taken:.2f}x of float32, differs by {difference:.1e} of the norm")


def floors(size: dict[str, int], rows: int) -> Callable[[], None]:
    """The matrix products of one forward pass."""
    width = size["embed_dim"]
    shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    pairs = [(torch.randn(rows, inner), torch.randn(columns, inner)) for inner, columns in shapes]

    def products() -> None:
        for _ in range(size["num_layers"]):
            for features, weight in pairs:
                features @ weight.T

    return products


def square_product(size: int = 2048) -> None:
    torch.ones(size, size) @ torch.ones(size, size)


def peak_bytes(run: Run) -> tuple[int, Tensor]:
    """How much the process grew at most during a call, 0 where the system does not tell; and its result."""
    status = Path("/proc/self/status")
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return 0, run()
    before = resident(status, "VmRSS")
    output = run()
    return resident(status, "VmHWM") - before, output


def resident(status: Path, field: str) -> int:
    [line] = [line for line in status.read_text().splitlines() if line.startswith(field)]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
