"""Claims about structure encoders."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing.claims import Claims, nudge
from esmgn_core.testing.encoders import EncoderSubject, check_encoder, check_encoding
from esmgn_core.testing.examples import FEATURES_DIM, ExampleGraph, example_batch, example_features
from esmgn_core.testing.layers import structure_layers

_RELATIONS = (1, 3, 9)
_MOTION_TOLERANCE = 1e-3


def check_structure_encoder(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a structure encoder."""
    subject = structure_subject(claims, build)
    check_encoder(subject)
    claims.check((_relations, _input_widths), EncoderSubject(claims, build, subject.encode))
    claims.check((_features_untouched, _gradient_reaches_features, _rigid_motion, _no_edges), subject)
    claims.check((structure_layers,), subject)
    claims.check((_half_precision,), EncoderSubject(claims, build, subject.encode))


def structure_subject(claims: Claims, build: Callable[..., Any]) -> EncoderSubject:
    """A structure encoder under test."""
    return EncoderSubject(
        claims,
        lambda: build(input_dim=FEATURES_DIM, num_relations=ExampleGraph.num_relations),
        lambda module, batch, graph: module(batch, graph, example_features(batch)),
    )


@torch.no_grad()
def _relations(subject: EncoderSubject) -> None:
    """Graphs with 1, 3 and 9 relations can be encoded, and no two relations share their weights."""
    batch = example_batch()
    edges = ExampleGraph()(batch).edge_index.unique(dim=1)
    features = example_features(batch)
    for count in _RELATIONS:
        torch.manual_seed(17)
        module = subject.build(input_dim=FEATURES_DIM, num_relations=count)
        nudge(module)
        found = []
        for number in (None, *range(count)):
            relation = torch.arange(edges.shape[1]) % count if number is None else torch.tensor(number)
            graph = ResidueGraph.from_edges(edges, relation.expand(edges.shape[1]).clone(), count)
            encoding = module.eval()(batch, graph, features)
            check_encoding(subject.claims, encoding, batch, module.output_dim)
            found.append(encoding.residue)
        pairs = itertools.combinations(range(count), 2)
        equal = [(i, j) for i, j in pairs if torch.equal(found[i + 1], found[j + 1])]
        subject.claims.require(
            len(equal) in (0, math.comb(count, 2)),
            f"distinguishes relations, but not {equal[0] if equal else ''} of {count}",
        )


@torch.no_grad()
def _input_widths(subject: EncoderSubject) -> None:
    """Features of another width can be encoded."""
    batch = example_batch()
    graph = ExampleGraph()(batch)
    for width in (1, 21):
        module = subject.build(input_dim=width, num_relations=graph.num_relations).eval()
        encoding = module(batch, graph, example_features(batch, width))
        check_encoding(subject.claims, encoding, batch, module.output_dim)


def _features_untouched(subject: EncoderSubject) -> None:
    """The features are bit-identical after a call, in training and in evaluation."""
    module, batch = subject.trained(), example_batch()
    graph, features = ExampleGraph()(batch), example_features(batch)
    for training in (False, True):
        module.train(training)
        subject.claims.unchanged(lambda: module(batch, graph, features), features=features)


def _gradient_reaches_features(subject: EncoderSubject) -> None:
    """Gradients reach the input features, so that a sequence encoder can be trained."""
    module, batch = subject.trained(), example_batch()
    features = example_features(batch).requires_grad_()
    encoding = module(batch, ExampleGraph()(batch), features)
    encoding.residue.square().sum().backward()
    reached = features.grad is not None and bool(features.grad.count_nonzero())
    subject.claims.require(reached, "no gradient reaches its input features")


@torch.no_grad()
def _rigid_motion(subject: EncoderSubject) -> None:
    """Rotation and translation of the proteins do not change the encoding."""
    module, batch = subject.trained(), example_batch()
    expected = subject.encode(module, batch, ExampleGraph()(batch))
    for motion, moved in moved_batches(batch).items():
        actual = subject.encode(module, moved, ExampleGraph()(moved))
        what = f"{motion} the proteins changes representations"
        subject.claims.require_close(what, actual.residue, expected.residue, _MOTION_TOLERANCE)


def moved_batches(batch: ProteinBatch) -> dict[str, ProteinBatch]:
    """The translated and the rotated batch, by name of the motion; missing atoms stay missing."""
    backbone = batch.backbone.double()
    moved = {
        "shifting": backbone + torch.tensor([11.0, -7.0, 23.0], dtype=torch.float64),
        "turning": backbone @ _rotation(0.9, 0, 1) @ _rotation(2.3, 1, 2),
    }
    return {motion: batch.replace(backbone=atoms.float()) for motion, atoms in moved.items()}


def _rotation(angle: float, one: int, other: int) -> Tensor:
    """Rotation matrix float64 [3, 3] by ``angle``, in radians, in the plane of two axes."""
    turn = torch.eye(3, dtype=torch.float64)
    turn[one, one] = turn[other, other] = math.cos(angle)
    turn[one, other], turn[other, one] = -math.sin(angle), math.sin(angle)
    return turn


@torch.no_grad()
def _no_edges(subject: EncoderSubject) -> None:
    """A graph without edges can be encoded: a pretext task may remove all edges."""
    module, batch = subject.trained(), example_batch()
    graph = ExampleGraph()(batch)
    empty = graph.keep_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    check_encoding(subject.claims, subject.encode(module, batch, empty), batch, module.output_dim)


def _half_precision(subject: EncoderSubject) -> None:
    """A training step runs in bfloat16 and float16, also with features as wide as its layers."""
    batch = example_batch()
    graph = ExampleGraph()(batch)
    for width in _widths(subject.build(input_dim=FEATURES_DIM, num_relations=graph.num_relations)):
        for precision in (torch.bfloat16, torch.float16):
            module = subject.build(input_dim=width, num_relations=graph.num_relations).train()
            features = example_features(batch, width).requires_grad_()
            with torch.autocast("cpu", precision):
                encoding = module(batch, graph, features)
            (encoding.residue.float().mean() + encoding.protein.float().mean()).backward()
            actual = None if features.grad is None else features.grad.dtype
            subject.claims.require(
                actual == torch.float32,
                f"under {precision} the gradient of float32 features {width} wide is {actual}",
            )


def _widths(module: nn.Module) -> list[int]:
    """Widths of features to test: another width than the module's layers, and their most common ones."""
    own = Counter(len(tensor) for tensor in module.parameters() if tensor.dim() == 1 and len(tensor) > 1)
    return [FEATURES_DIM, *(width for width, _ in own.most_common(2) if width != FEATURES_DIM)]
