"""Structure encoders with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, undecided, valid

COUNTER = itertools.count()


@valid(Kind.STRUCT)
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
        self.relation: Any = nn.Embedding(num_relations, self.output_dim)

    def residues(self, batch, graph, features):
        hidden = self.norm(self.linear(features))
        source, target = graph.edge_index
        distance = (batch.ca[source] - batch.ca[target]).norm(dim=1, keepdim=True)
        message = hidden[source] * self.relation(graph.relation) / (1 + distance)
        return hidden.index_add(0, target, message.to(hidden.dtype))

    def forward(self, batch, graph, features):
        return Encoding.from_residues(self.residues(batch, graph, features), batch)


@fault(Kind.STRUCT, "packing changes the residue representations of protein 'two_chains'")
class MixesProteins(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found - found.mean(dim=0)


@fault(Kind.STRUCT, "packing changes the protein representations of protein 'two_chains'")
class PoolsAcrossProteins(Healthy):
    def forward(self, batch, graph, features):
        residue = self.residues(batch, graph, features)
        return Encoding(residue, residue.sum(dim=0).expand(len(batch), -1))


@fault(Kind.STRUCT, "the order of proteins in the batch changes representations")
class NeedsTheLongestFirst(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + (batch.lengths[0] < batch.lengths[-1])


@fault(Kind.STRUCT, "changes its input in place: features")
class ChangesFeatures(Healthy):
    def forward(self, batch, graph, features):
        return super().forward(batch, graph, features.mul_(0.5))


@fault(Kind.STRUCT, "changes its input in place: features")
class ChangesFeaturesInTraining(Healthy):
    def forward(self, batch, graph, features):
        return super().forward(batch, graph, features.mul_(0.5) if self.training else features)


@fault(Kind.STRUCT, r"changes its input in place: batch\.backbone")
class ChangesBatch(Healthy):
    def forward(self, batch, graph, features):
        batch.backbone.nan_to_num_()
        return super().forward(batch, graph, features)


@fault(Kind.STRUCT, r"changes its input in place: graph\.relation")
class ChangesGraph(Healthy):
    def forward(self, batch, graph, features):
        graph.relation.clamp_(max=1)
        return super().forward(batch, graph, features)


@fault(Kind.STRUCT, r"no gradient reaches: forgotten\.weight, forgotten\.bias")
class HasUnusedParameter(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.forgotten = nn.Linear(2, 2)


@fault(Kind.STRUCT, "the gradient is not finite at: linear.weight")
class HasInfiniteGradient(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + (found - found).sqrt()


@fault(Kind.STRUCT, "values of its state dict are not tensors: _extra_state")
class KeepsNotesInItsState(Healthy):
    def get_extra_state(self):
        return {"made_by": "hand"}

    def set_extra_state(self, state):
        pass


@fault(Kind.STRUCT, "protein representations carry no gradient")
class DetachesReadout(Healthy):
    def forward(self, batch, graph, features):
        encoding = super().forward(batch, graph, features)
        return Encoding(encoding.residue, encoding.protein.detach())


@fault(Kind.STRUCT, "no gradient reaches its input features")
class DetachesFeatures(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features.detach())


@fault(Kind.STRUCT, r"have shape \(196, 6\), expected \(196, output_dim = 7\)")
class LiesAboutWidth(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.output_dim += 1


@fault(Kind.STRUCT, "output_dim is None, expected a positive integer")
class HasNoWidth(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.output_dim: Any = None


@fault(Kind.STRUCT, "returns Tensor, expected Encoding")
class ReturnsTensor(Healthy):
    def forward(self, batch, graph, features):
        return self.residues(batch, graph, features)


@fault(Kind.STRUCT, r"residue representations are torch\.float64, expected torch\.float32")
class ReturnsDouble(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features).double()


@fault(Kind.STRUCT, "residue representations are not all finite")
class TrustsEveryAtom(Healthy):
    def residues(self, batch, graph, features):
        bond = (batch.backbone[:, 0] - batch.ca).norm(dim=1, keepdim=True)
        return super().residues(batch, graph, features) + bond


@fault(Kind.STRUCT, "returns different results for one batch in eval mode")
class DrawsInEvaluation(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + torch.rand_like(found)


@fault(Kind.STRUCT, "changes its own state in eval mode: num_calls")
class CountsInEvaluation(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.num_calls: torch.Tensor
        self.register_buffer("num_calls", torch.zeros(()))

    def residues(self, batch, graph, features):
        self.num_calls += 1
        return super().residues(batch, graph, features)


@fault(Kind.STRUCT, r"the same seed gives different results: state\.linear\.bias")
class IgnoresSeed(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        nn.init.constant_(self.linear.bias, next(COUNTER))


@fault(Kind.STRUCT, "a state is not saved")
class HidesState(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.hidden_shift = torch.randn(self.output_dim)

    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + self.hidden_shift


@fault(Kind.STRUCT, "shifting the proteins changes representations")
class ReadsAbsolutePosition(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + batch.ca.sum(dim=1, keepdim=True)


@fault(Kind.STRUCT, "turning the proteins changes representations")
class ReadsDirection(Healthy):
    def residues(self, batch, graph, features):
        source, target = graph.edge_index
        direction = (batch.ca[source] - batch.ca[target])[:, :1].expand(-1, self.output_dim)
        found = super().residues(batch, graph, features)
        return found.index_add(0, target, direction.to(found.dtype))


@fault(Kind.STRUCT, "It runs under bfloat16 autocast")
class FailsInBfloat16(Healthy):
    def residues(self, batch, graph, features):
        hidden = self.linear(features)
        source, target = graph.edge_index
        return self.norm(hidden).index_add(0, target, self.relation(graph.relation) * features[source, :1])


@fault(Kind.STRUCT, r"would fail on a GPU: .* gets tensors on cuda:0, and \[\(6,\)\] on the CPU")
class HasATableOnTheCPU(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + torch.arange(self.output_dim)


@undecided(Kind.STRUCT, "the simulated GPU stopped at AssertionError: no such kernel")
class RunsOnlyOnRealDevices(Healthy):
    def residues(self, batch, graph, features):
        assert not features.is_cuda, "no such kernel"
        return super().residues(batch, graph, features)


@fault(Kind.STRUCT, "A graph without edges can be encoded")
class NeedsEdges(Healthy):
    def residues(self, batch, graph, features):
        assert graph.num_relations > graph.relation.max()
        return super().residues(batch, graph, features)


@fault(Kind.STRUCT, "Graphs with 1, 3 and 9 relations can be encoded")
class HasFourRelations(Healthy):
    def __init__(self, settings, *, input_dim, num_relations):
        super().__init__(settings, input_dim=input_dim, num_relations=4)


@fault(Kind.STRUCT, r"distinguishes relations, but not \(0, 4\) of 9")
class FoldsRelations(Healthy):
    """Takes the number of a relation modulo 4."""

    def residues(self, batch, graph, features):
        return super().residues(batch, replace(graph, relation=graph.relation % 4), features)


@fault(Kind.STRUCT, r"distinguishes relations, but not \(3, 4\) of 9")
class ClampsRelations(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, replace(graph, relation=graph.relation.clamp(max=3)), features)


@fault(Kind.STRUCT, "Graphs with 1, 3 and 9 relations can be encoded")
class NeedsRelationThree(Healthy):
    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) + self.relation.weight[3]


@fault(Kind.STRUCT, "Features of another width can be encoded")
class TakesOneWidth(Healthy):
    def __init__(self, settings, *, input_dim, num_relations):
        super().__init__(settings, input_dim=24, num_relations=num_relations)


@fault(Kind.STRUCT, r"have shape \(196, 6\), expected \(196, output_dim = 1\)|another width")
class ReportsItsInputWidth(Healthy):
    """``output_dim`` is the input width, right only where both are equal."""

    def __init__(self, settings, *, input_dim, num_relations):
        super().__init__(settings, input_dim=input_dim, num_relations=num_relations)
        self.output_dim = 6 if input_dim == 24 else input_dim


@fault(Kind.STRUCT, "reads the labels of the proteins")
class ReadsLabels(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        if batch.labels is None:
            return found
        return found + batch.labels.nan_to_num()[batch.protein_index, :1]


@fault(Kind.STRUCT, "reads the labels of the proteins")
class CountsLabels(Healthy):
    """Scales by the number of known labels."""

    def forward(self, batch, graph, features):
        found = super().forward(batch, graph, features)
        known = 1.0 if batch.labels is None else batch.labels.isfinite().float().mean()
        return Encoding(found.residue, found.protein * known)


@fault(Kind.STRUCT, "reads the names of the proteins")
class RecognisesNames(Healthy):
    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + batch.names[0].startswith("other")


@fault(Kind.STRUCT, "8 threads")
class KeepsTheBatchOnItself(Healthy):
    """Passes the batch to another method through an attribute."""

    def forward(self, batch, graph, features):
        self.current = batch
        return super().forward(batch, graph, features)

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found + self.current.residue_index.unsqueeze(1) / 100


@fault(Kind.STRUCT, "8 threads")
class KeepsFeaturesOnItself(Healthy):
    def residues(self, batch, graph, features):
        self.hidden = self.linear(features)
        found = super().residues(batch, graph, features)
        return found + self.hidden


@fault(Kind.STRUCT, "changes the state of torch's random numbers in eval mode")
class SeedsInEvaluation(Healthy):
    def residues(self, batch, graph, features):
        torch.manual_seed(0)
        return super().residues(batch, graph, features) + torch.rand(self.output_dim)


@fault(Kind.STRUCT, "sets the seed of torch's random numbers")
class SeedsItsWeights(Healthy):
    def __init__(self, settings, **context):
        torch.manual_seed(7)
        super().__init__(settings, **context)


@fault(Kind.STRUCT, "No tensor stays on the CPU")
class PoolsOnTheCPU(Healthy):
    def forward(self, batch, graph, features):
        found = super().forward(batch, graph, features)
        return Encoding(found.residue, found.protein.cpu())


@fault(Kind.STRUCT, "representations are not all finite")
class NormalisesSingleResidues(Healthy):
    """Divides by the deviation over the residues of a protein, which a single residue does not have."""

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return torch.cat([part / part.std(0, correction=0) for part in found.split(batch.lengths.tolist())])


@fault(
    Kind.STRUCT, "packing changes the residue representations of protein 'single'|shape|Index|was checked for"
)
class PadsToTheFirstLength(Healthy):
    """Cuts every protein to the length of the first one."""

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        length = int(batch.lengths[0])
        return torch.cat(
            [
                part * (torch.arange(len(part)) < length).unsqueeze(1)
                for part in found.split(batch.lengths.tolist())
            ]
        )


@valid(Kind.STRUCT)
class IsFrozen(Healthy):
    """Has no trainable parameter."""

    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.requires_grad_(False)


@valid(Kind.STRUCT)
class IgnoresTheGraph(Healthy):
    reads_graph = False

    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        del self.relation

    def residues(self, batch, graph, features):
        return self.norm(self.linear(features))


@valid(Kind.STRUCT)
class IgnoresRelations(IgnoresTheGraph):
    def residues(self, batch, graph, features):
        hidden = super().residues(batch, graph, features)
        source, target = graph.edge_index
        return hidden.index_add(0, target, hidden[source])


@valid(Kind.STRUCT)
class PoolsWithLearnedAttention(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.score = nn.Linear(self.output_dim, 1)

    def forward(self, batch, graph, features):
        residue = self.residues(batch, graph, features)
        weight = self.score(residue).clamp(-8, 8).exp()
        total = weight.new_zeros(len(batch), 1).index_add(0, batch.protein_index, weight)
        pooled = residue.new_zeros(len(batch), self.output_dim)
        pooled = pooled.index_add(0, batch.protein_index, (residue * weight).to(residue.dtype))
        return Encoding(residue, pooled / total)


@valid(Kind.STRUCT)
class DropsInTraining(Healthy):
    def residues(self, batch, graph, features):
        return torch.dropout(super().residues(batch, graph, features), 0.3, self.training)


@valid(Kind.STRUCT)
class HasBuffers(Healthy):
    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.rand(self.output_dim))
        self.register_buffer("table", torch.arange(self.output_dim), persistent=False)

    def residues(self, batch, graph, features):
        return super().residues(batch, graph, features) * self.scale


@valid(Kind.STRUCT)
class RepeatsTheProtein(Healthy):
    """Gives all residues of a protein the same representation."""

    resolves_residues = False

    def forward(self, batch, graph, features):
        found = super().forward(batch, graph, features)
        return Encoding(found.protein[batch.protein_index], found.protein)


@valid(Kind.STRUCT)
class TiesItsWeights(Healthy):
    """Uses one module under two names."""

    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.again = self.relation


@valid(Kind.STRUCT)
class ComposesRelations(Healthy):
    """Weights of a relation are a mixture of two bases."""

    def __init__(self, settings, *, input_dim, num_relations):
        super().__init__(settings, input_dim=input_dim, num_relations=num_relations)
        self.relation = nn.Sequential(nn.Embedding(num_relations, 2), nn.Linear(2, self.output_dim))


@valid(Kind.STRUCT)
class KeepsACounter(Healthy):
    """Counts its calls in an attribute that changes no result."""

    calls = 0

    def residues(self, batch, graph, features):
        self.calls += 1
        return super().residues(batch, graph, features)


@valid(Kind.STRUCT)
class ReadsConfidence(Healthy):
    """Reads pLDDT, which most proteins lack."""

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        if batch.plddt is None:
            return found
        return found + batch.plddt.nan_to_num().unsqueeze(1) / 100


class Switched(Healthy):
    """A structure encoder with more settings."""

    class Settings(ComponentSettings):
        hidden_dim: int = 6
        """Width."""
        dropout: float = 0.1
        """Share of numbers that are dropped in training."""
        gated: bool = False
        """Multiply by a gate."""
        gate: Literal["relu", "tanh"] = "tanh"
        """Function of the gate."""

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return torch.dropout(found, self.settings.dropout, self.training)

    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.settings = settings


@valid(Kind.STRUCT)
class ReadsASettingBehindASwitch(Switched):
    """Reads ``gate`` only if ``gated`` is true."""

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found * getattr(torch, self.settings.gate)(found) if self.settings.gated else found


@fault(Kind.STRUCT, "never reads its setting 'gate' and 'gated'")
class IgnoresTwoSettings(Switched):
    pass


@fault(Kind.STRUCT, "never reads its setting 'hidden_dim'")
class FixesItsWidth(Healthy):
    """Takes a width from the class instead of its setting."""

    def __init__(self, settings, *, input_dim, num_relations):
        super().__init__(Healthy.Settings(), input_dim=input_dim, num_relations=num_relations)


@fault(Kind.STRUCT, "never reads its setting 'dropout'")
class ForgetsDropout(Switched):
    def residues(self, batch, graph, features):
        found = Healthy.residues(self, batch, graph, features)
        return found * getattr(torch, self.settings.gate)(found) if self.settings.gated else found


@undecided(Kind.STRUCT, "another value of the setting 'gate' changes neither parameters nor outputs")
class ReadsASettingForNothing(Switched):
    """Reads ``gate`` into an attribute that nothing uses."""

    def __init__(self, settings, **context):
        super().__init__(settings, **context)
        self.gate = settings.gate
        self.output_dim += 0 * settings.gated

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return -found if self.settings.gated else found


@valid(Kind.STRUCT)
class RefusesOtherWidths(Switched):
    """Accepts only even widths."""

    def __init__(self, settings, **context):
        if settings.hidden_dim % 2:
            raise ValueError("hidden_dim must be even")
        super().__init__(settings, **context)

    def residues(self, batch, graph, features):
        found = super().residues(batch, graph, features)
        return found * getattr(torch, self.settings.gate)(found) if self.settings.gated else found
