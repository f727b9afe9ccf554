"""The conformance kit catches structure encoders that break their contract."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class

COUNTER = itertools.count()


class Healthy(nn.Module):
    """A structure encoder with all that can go wrong: statistics, relations, messages."""

    class Settings(ComponentSettings):
        hidden_dim: int = 6
        """Width."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.output_dim = settings.hidden_dim
        self.linear = nn.Linear(input_dim, self.output_dim)
        self.norm = nn.BatchNorm1d(self.output_dim)
        self.relation = nn.Embedding(num_relations, self.output_dim)

    def residues(self, batch, graph, features):
        hidden = self.norm(self.linear(features))
        source, target = graph.edge_index
        distance = (batch.ca[source] - batch.ca[target]).norm(dim=1, keepdim=True)
        message = hidden[source] * self.relation(graph.relation) / (1 + distance)
        return hidden.index_add(0, target, message.to(hidden.dtype))

    def forward(self, batch, graph, features):
        return Encoding.from_residues(self.residues(batch, graph, features), batch)


class MixesProteins(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found - found.mean(dim=0)


class PoolsAcrossProteins(Healthy):
    def forward(self, batch, graph, features):
        residue = self.residues(batch, graph, features)
        return Encoding(residue, residue.sum(dim=0).expand(len(batch), -1))


class NeedsTheLongestFirst(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + (batch.lengths[0] < batch.lengths[-1])


class ChangesFeatures(Healthy):
    def forward(self, batch, graph, features):
        return super().forward(batch, graph, features.mul_(0.5))


class ChangesFeaturesInTraining(Healthy):
    def forward(self, batch, graph, features):
        return super().forward(batch, graph, features.mul_(0.5) if self.training else features)


class ChangesBatch(Healthy):
    def forward(self, batch, graph, features):
        batch.backbone.nan_to_num_()
        return super().forward(batch, graph, features)


class ChangesGraph(Healthy):
    def forward(self, batch, graph, features):
        graph.relation.clamp_(max=1)
        return super().forward(batch, graph, features)


class HasUnusedParameter(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.forgotten = nn.Linear(2, 2)


class HasInfiniteGradient(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + (found - found).sqrt()


class KeepsNotesInItsState(Healthy):
    def get_extra_state(self):
        return {"made_by": "hand"}

    def set_extra_state(self, state):
        pass


class DetachesReadout(Healthy):
    def forward(self, batch, graph, features):
        encoding = super().forward(batch, graph, features)
        return Encoding(encoding.residue, encoding.protein.detach())


class DetachesFeatures(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features.detach())


class LiesAboutWidth(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.output_dim += 1


class HasNoWidth(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.output_dim: Any = None


class ReturnsTensor(Healthy):
    def forward(self, batch, graph, features):
        return self.residues(batch, graph, features)


class ReturnsDouble(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features).double()


class TrustsEveryAtom(Healthy):
    def residues(self, batch, graph, features):
        bond = (batch.backbone[:, 0] - batch.ca).norm(dim=1, keepdim=True)
        return super().residues(batch, graph, features) + bond


class DrawsInEvaluation(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + torch.rand_like(found)


class CountsInEvaluation(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.num_calls: torch.Tensor
        self.register_buffer("num_calls", torch.zeros(()))

    def residues(self, batch, graph, features):
        self.num_calls += 1
        return super().residues(batch, graph, features)


class IgnoresSeed(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        nn.init.constant_(self.linear.bias, next(COUNTER))


class HidesState(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.hidden_shift = torch.randn(self.output_dim)

    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + self.hidden_shift


class ReadsAbsolutePosition(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + batch.ca.sum(dim=1, keepdim=True)


class ReadsDirection(Healthy):
    def residues(self, batch, graph, features):
        source, target = graph.edge_index
        direction = (batch.ca[source] - batch.ca[target])[:, :1].expand(-1, self.output_dim)
        found = super().residues(batch, graph, features)
        return found.index_add(0, target, direction.to(found.dtype))


class FailsInBfloat16(Healthy):
    def residues(self, batch, graph, features):
        hidden = self.linear(features)
        source, target = graph.edge_index
        return self.norm(hidden).index_add(0, target, self.relation(graph.relation) * features[source, :1])


class HasATableOnTheCPU(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + torch.arange(self.output_dim)


class RunsOnlyOnRealDevices(Healthy):
    def residues(self, batch, graph, features):
        assert not features.is_cuda, "no such kernel"
        return super().residues(batch, graph, features)


class NeedsEdges(Healthy):
    def residues(self, batch, graph, features):
        assert graph.num_relations > graph.relation.max()
        return super().residues(batch, graph, features)


def test_a_healthy_structure_encoder_passes():
    check_class(Kind.STRUCT, Healthy)
    check_class(Kind.STRUCT, Healthy, hidden_dim=3)


def test_errors_that_only_a_gpu_avoids_are_ignored():
    check_class(Kind.STRUCT, RunsOnlyOnRealDevices)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (MixesProteins, "packing changes the residue representations of protein 'two_chains'"),
        (PoolsAcrossProteins, "packing changes the protein representations of protein 'two_chains'"),
        (NeedsTheLongestFirst, "the order of proteins in the batch changes representations"),
        (ChangesFeatures, "changes its input in place: features"),
        (ChangesFeaturesInTraining, "changes its input in place: features"),
        (ChangesBatch, r"changes its input in place: batch\.backbone"),
        (ChangesGraph, r"changes its input in place: graph\.relation"),
        (HasUnusedParameter, r"no gradient reaches: forgotten\.weight, forgotten\.bias"),
        (HasInfiniteGradient, "the gradient is not finite at: linear.weight"),
        (KeepsNotesInItsState, "values of its state dict are not tensors: _extra_state"),
        (DetachesReadout, "protein representations carry no gradient"),
        (DetachesFeatures, "no gradient reaches its input features"),
        (LiesAboutWidth, r"have shape \(196, 6\), expected \(196, output_dim = 7\)"),
        (HasNoWidth, "output_dim is None, expected a positive integer"),
        (ReturnsTensor, "returns Tensor, expected Encoding"),
        (ReturnsDouble, r"residue representations are torch\.float64, expected torch\.float32"),
        (TrustsEveryAtom, "residue representations are not all finite"),
        (DrawsInEvaluation, "returns different results for one batch in eval mode"),
        (CountsInEvaluation, "changes its own state in eval mode: num_calls"),
        (IgnoresSeed, r"the same seed gives different results: state\.linear\.bias"),
        (HidesState, "a state is not saved"),
        (ReadsAbsolutePosition, "shifting the proteins changes representations"),
        (
            HasATableOnTheCPU,
            r"would fail on a GPU: .* gets tensors on cuda:0, and \[\(6,\)\] on the CPU",
        ),
        (ReadsDirection, "turning the proteins changes representations"),
    ],
)
def test_a_broken_structure_encoder_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^structure encoder '{component.__name__}': .*{message}"):
        check_class(Kind.STRUCT, component)


@pytest.mark.parametrize(
    ("component", "claim"),
    [
        (FailsInBfloat16, "It runs under bfloat16 autocast"),
        (NeedsEdges, "A graph without edges can be encoded"),
    ],
)
def test_an_error_of_the_component_keeps_its_traceback_and_names_the_claim(component, claim):
    with pytest.raises((RuntimeError, IndexError)) as caught:
        check_class(Kind.STRUCT, component)
    (note,) = caught.value.__notes__
    assert note.startswith(f"structure encoder '{component.__name__}' was checked for: {claim}")
