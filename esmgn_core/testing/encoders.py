"""Claims about every encoder: of sequences, of structures, and of both fused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.model.contract import encoding_problem
from esmgn_core.testing.claims import (
    Claims,
    differences,
    gradients_reach_parameters,
    in_threads,
    nudge,
    snapshot,
    state_dict_carries_over,
)
from esmgn_core.testing.examples import ExampleGraph, example_batch, example_proteins
from esmgn_core.testing.simulated import keeps_to_its_device, moved_to_cuda

_PACKING_TOLERANCE = 1e-5
_BF16_TOLERANCE = 0.1
_LONG = 100


@dataclass(frozen=True, slots=True)
class EncoderSubject:
    """An encoder under test.

    Attributes:
        claims: the claims.
        build: makes a new instance, with torch's random numbers.
        encode: calls an instance with a batch and a graph.
    """

    claims: Claims
    build: Callable[..., Any]
    encode: Callable[[Any, ProteinBatch, ResidueGraph], Encoding]

    def trained(self) -> Any:
        """An instance in eval mode, with changed parameters and statistics."""
        torch.manual_seed(17)
        module = self.build()
        nudge(module)
        self.encoding(module.train(), example_proteins(seed=3))
        return module.eval()

    def observed(self) -> dict[str, object]:
        """Parameters of a new instance, and its encoding in training, always from the same seed."""
        torch.manual_seed(17)
        module = self.build().train()
        nudge(module)
        return snapshot({"state": module, "encoding": self.encoding(module, example_proteins())})

    def encoding(self, module: Any, proteins: list[Protein]) -> Encoding:
        """The encoding of some proteins on the example graph, without gradients."""
        batch = ProteinBatch.from_proteins(proteins)
        with torch.no_grad():
            return self.encode(module, batch, ExampleGraph()(batch))


def check_encoder(subject: EncoderSubject) -> None:
    """Check all claims about an encoder."""
    checks = (
        shapes,
        _inputs_untouched,
        _evaluation,
        _threads,
        _labels_and_names,
        _packing,
        _order,
        _gradients,
        _same_seed,
        _state_dict,
        _bfloat16,
        _other_device,
    )
    subject.claims.check(checks, subject)


def check_encoding(claims: Claims, encoding: object, batch: ProteinBatch, width: int) -> None:
    """An encoding is finite, with representations of width ``output_dim``."""
    problem = encoding_problem(encoding, batch, width)
    claims.require(not problem, problem)


def shapes(subject: EncoderSubject) -> None:
    """Residue [N, output_dim] and protein [B, output_dim] representations, float32 and finite."""
    claims, module = subject.claims, subject.trained()
    width = module.output_dim
    claims.require_positive("output_dim", width)
    encoding = subject.encoding(module, example_proteins())
    check_encoding(claims, encoding, example_batch(), int(width))
    for name, tensor in (("residue", encoding.residue), ("protein", encoding.protein)):
        claims.require(
            tensor.dtype == torch.float32,
            f"{name} representations are {tensor.dtype}, expected torch.float32",
        )


def _inputs_untouched(subject: EncoderSubject) -> None:
    """Batch and graph are bit-identical after a call, in training and in evaluation."""
    module = subject.trained()
    batch = example_batch()
    graph = ExampleGraph()(batch)
    for training in (False, True):
        module.train(training)
        subject.claims.unchanged(lambda: subject.encode(module, batch, graph), batch=batch, graph=graph)


def _evaluation(subject: EncoderSubject) -> None:
    """Evaluation draws no random numbers and does not change weights or statistics."""
    module = subject.trained()
    torch.manual_seed(5)
    before, random = snapshot(module), torch.get_rng_state()
    first = subject.encoding(module, example_proteins())
    second = subject.encoding(module, example_proteins())
    subject.claims.require(
        not differences(snapshot(first), snapshot(second)),
        "returns different results for one batch in eval mode",
    )
    changed = differences(before, snapshot(module))
    subject.claims.require(not changed, f"changes its own state in eval mode: {', '.join(changed)}")
    unchanged = torch.equal(random, torch.get_rng_state())
    subject.claims.require(unchanged, "changes the state of torch's random numbers in eval mode")


def _threads(subject: EncoderSubject) -> None:
    """In eval mode, 8 threads can share an instance."""
    module = subject.trained()
    proteins = [[protein] for protein in example_proteins() * 2 if len(protein) < _LONG]
    same = in_threads(lambda chosen: snapshot(subject.encoding(module, chosen)), proteins)
    subject.claims.require(same, "returns other results when 8 threads call it at the same time")


@torch.no_grad()
def _labels_and_names(subject: EncoderSubject) -> None:
    """Labels and names do not change the encoding."""
    module, batch = subject.trained(), example_batch()
    graph = ExampleGraph()(batch)
    labels = torch.arange(2.0 * len(batch)).reshape(len(batch), 2)
    others = (
        batch.replace(labels=labels),
        batch.replace(labels=labels.sin().masked_fill(labels == 3, torch.nan)),
        batch.replace(labels=labels, names=tuple(f"other {name}" for name in batch.names[::-1])),
    )
    expected = snapshot(subject.encode(module, batch, graph))
    for what, other in zip(("labels", "labels", "names"), others, strict=True):
        changed = differences(expected, snapshot(subject.encode(module, other, graph)))
        subject.claims.require(not changed, f"reads the {what} of the proteins")


def _packing(subject: EncoderSubject) -> None:
    """The encoding of a protein does not depend on the other proteins of the batch."""
    module, proteins = subject.trained(), example_proteins()
    packed = subject.encoding(module, proteins)
    for number, (protein, residue) in enumerate(zip(proteins, _by_protein(packed, proteins), strict=True)):
        alone = subject.encoding(module, [protein])
        check_encoding(subject.claims, alone, ProteinBatch.from_proteins([protein]), module.output_dim)
        pairs = (("residue", residue, alone.residue), ("protein", packed.protein[number], alone.protein[0]))
        for name, actual, expected in pairs:
            what = f"packing changes the {name} representations of protein '{protein.name}'"
            subject.claims.require_close(what, actual, expected, _PACKING_TOLERANCE)


def _order(subject: EncoderSubject) -> None:
    """The order of proteins in a batch does not matter."""
    module, proteins = subject.trained(), example_proteins()
    straight, turned = subject.encoding(module, proteins), subject.encoding(module, proteins[::-1])
    residue = torch.cat(_by_protein(turned, proteins[::-1])[::-1])
    for actual, expected in ((residue, straight.residue), (turned.protein.flip(0), straight.protein)):
        what = "the order of proteins in the batch changes representations"
        subject.claims.require_close(what, actual, expected, _PACKING_TOLERANCE)


def _by_protein(encoding: Encoding, proteins: list[Protein]) -> list[Tensor]:
    ptr = ProteinBatch.from_proteins(proteins).ptr.tolist()
    return [encoding.residue[first:end] for first, end in itertools.pairwise(ptr)]


def _gradients(subject: EncoderSubject) -> None:
    """In training, a loss on the representations reaches every trainable parameter."""
    module = subject.trained().train()
    batch = example_batch()
    encoding = subject.encode(module, batch, ExampleGraph()(batch))
    trainable = any(parameter.requires_grad for parameter in module.parameters())
    for name, tensor in (("residue", encoding.residue), ("protein", encoding.protein)):
        subject.claims.require(
            tensor.requires_grad or not trainable, f"{name} representations carry no gradient"
        )
    gradients_reach_parameters(subject.claims, module, weighted_sum(encoding))


def weighted_sum(encoding: Encoding) -> Tensor:
    """A loss in which every number of an encoding has its own weight.

    The gradient of a plain sum would be zero before a batch normalisation.
    """
    parts = [encoding.residue.flatten(), encoding.protein.flatten()]
    values = torch.cat(parts)
    return (values * torch.arange(len(values), device=values.device).mul(0.7).sin()).sum()


def _same_seed(subject: EncoderSubject) -> None:
    """The same seed gives the same model and result; a component sets no seed."""
    results, following = [], []
    for seed in (29, 29, 30):
        torch.manual_seed(seed)
        module = subject.build().train()
        results.append(snapshot({"state": module, "encoding": subject.encoding(module, example_proteins())}))
        following.append(torch.get_rng_state())
    changed = differences(*results[:2])
    subject.claims.require(not changed, f"the same seed gives different results: {', '.join(changed)}")
    seeded = torch.equal(following[0], following[2])
    subject.claims.require(not seeded, "sets the seed of torch's random numbers")


def _state_dict(subject: EncoderSubject) -> None:
    """A new instance with the state dict gives bit-identical results."""
    state_dict_carries_over(
        subject.claims,
        subject.trained(),
        subject.build,
        lambda module: subject.encoding(module, example_proteins()),
    )


def _bfloat16(subject: EncoderSubject) -> None:
    """It runs under bfloat16 autocast, the precision of training on most GPUs."""
    module = subject.trained()
    expected = subject.encoding(module, example_proteins())
    with torch.autocast("cpu", torch.bfloat16):
        actual = subject.encoding(module, example_proteins())
    for name in ("residue", "protein"):
        what = f"bfloat16 autocast changes the {name} representations"
        subject.claims.require_close(
            what, getattr(actual, name).float(), getattr(expected, name), _BF16_TOLERANCE
        )


def _other_device(subject: EncoderSubject) -> None:
    """No tensor stays on the CPU if module and batch are on a GPU, forward and backward."""
    module = subject.trained().train()

    def run(device: torch.device) -> Encoding:
        batch = example_batch().to(device)
        encoding = subject.encode(moved_to_cuda(module), batch, ExampleGraph()(batch))
        if encoding.residue.requires_grad:
            weighted_sum(encoding).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return encoding

    keeps_to_its_device(subject.claims, run)
