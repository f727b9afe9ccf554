"""Pretext tasks with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from esmgn_core.alphabet import MASKED, UNKNOWN
from esmgn_core.batch import Encoding, TaskOutput
from esmgn_core.draws import uniform_index
from esmgn_core.graph import View
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.PRETEXT)
class Healthy(nn.Module):
    """Predicts one masked residue of each protein."""

    class Settings(ComponentSettings):
        """No settings."""

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(encoder_dim, 21)

    def chosen(self, batch, draws):
        drawn = uniform_index(draws, torch.ones(len(batch), dtype=torch.int64), batch.lengths)
        return batch.ptr[:-1] + drawn.to(batch.ptr.device)

    def views(self, batch, build_graph, draws):
        residue = self.chosen(batch, draws)
        masked = batch.replace(residue_type=batch.residue_type.index_fill(0, residue, MASKED))
        targets = {"residue": residue, "residue_type": batch.residue_type[residue]}
        return (View(masked, build_graph(masked), targets),)

    def scores(self, views, encodings):
        return self.head(encodings[0].residue[views[0].targets["residue"]]).float()

    def loss(self, views, encodings):
        scores, target = self.scores(views, encodings), views[0].targets["residue_type"]
        accuracy = (scores.argmax(dim=1) == target).float().mean()
        return TaskOutput(cross_entropy(scores, target), len(target), {"accuracy": accuracy})


@fault(Kind.PRETEXT, r"changes its input in place: batch\.residue_type")
class ChangesBatch(Healthy):
    def views(self, batch, build_graph, draws):
        batch.residue_type[self.chosen(batch, draws)] = MASKED
        return (View(batch, build_graph(batch), {}),)


@fault(Kind.PRETEXT, r"the same draws give different views: 0\.batch\.residue_type")
class IgnoresDraws(Healthy):
    def chosen(self, batch, draws):
        return batch.ptr[:-1] + (torch.rand(len(batch)) * batch.lengths).long()


@fault(Kind.PRETEXT, "the view of protein 'long' depends on others of the batch")
class DrawsForTheWholeBatch(Healthy):
    def chosen(self, batch, draws):
        count = torch.zeros(len(batch), dtype=torch.int64)
        count[0] = 1
        share = draws.uniform(count)
        return batch.ptr[:-1] + (share * batch.lengths).long()


@fault(Kind.PRETEXT, r"views\(\) does not return a tuple of at least one View")
class ReturnsOneView(Healthy):
    def views(self, batch, build_graph, draws):
        return super().views(batch, build_graph, draws)[0]


@fault(Kind.PRETEXT, r"views\(\) does not return a tuple of at least one View")
class ReturnsNoView(Healthy):
    def views(self, batch, build_graph, draws):
        return ()


@fault(Kind.PRETEXT, "view 0 does not have as many proteins as the batch")
class LosesProtein(Healthy):
    def views(self, batch, build_graph, draws):
        short = batch.select(batch.protein_index < len(batch) - 1)
        short = short.replace(ptr=short.ptr[:-1], names=batch.names[:-1])
        return super().views(short, build_graph, draws_for(len(short)))


def draws_for(num_proteins):
    from esmgn_core.draws import SeededDraws

    return SeededDraws(1, 1, range(num_proteins))


@fault(Kind.PRETEXT, "tensors of view 0 disagree about the number of residues")
class LosesRows(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, batch=view.batch.replace(backbone=view.batch.backbone[1:])),)


@fault(Kind.PRETEXT, "an edge joins residues that are not in the batch")
class KeepsOldGraph(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        half = view.batch.select(torch.arange(batch.num_residues) % 2 == 0)
        return (View(half, view.graph, view.targets),)


@fault(Kind.PRETEXT, "targets of view 0 are not tensors: where")
class TargetsAreLists(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, targets={**view.targets, "where": [1, 2]}),)


@fault(Kind.PRETEXT, r"loss\(\) returns Tensor, expected TaskOutput")
class ReturnsTensor(Healthy):
    def loss(self, views, encodings):
        return super().loss(views, encodings).loss


@fault(Kind.PRETEXT, r"loss is not a float tensor of shape \[\]")
class LossHasDimensions(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.unsqueeze(0))


@fault(Kind.PRETEXT, "loss is not finite")
class LossIsNotFinite(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss / 0)


@fault(Kind.PRETEXT, "loss has no gradient")
class LossIsDetached(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.detach())


@fault(Kind.PRETEXT, r"num_samples is tensor\(5\), expected a positive number")
class CountsWithTensor(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, num_samples=torch.tensor(output.num_samples))


@fault(Kind.PRETEXT, "metric 'cross_entropy' is not detached")
class MetricsCarryGradient(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, metrics={"cross_entropy": output.loss})


@fault(Kind.PRETEXT, r"metric 'accuracy' is not a float tensor of shape \[\]")
class MetricsAreNumbers(Healthy):
    def loss(self, views, encodings):
        return replace(super().loss(views, encodings), metrics={"accuracy": 0.5})


@fault(Kind.PRETEXT, r"changes its input in place: encodings\.0\.residue")
class ChangesEncodings(Healthy):
    def loss(self, views, encodings):
        with torch.no_grad():
            encodings[0].residue.mul_(2)
        return super().loss(views, encodings)


@fault(Kind.PRETEXT, r"no gradient reaches: second_head\.weight")
class HasUnusedHead(Healthy):
    def __init__(self, settings, *, encoder_dim):
        super().__init__(settings, encoder_dim=encoder_dim)
        self.second_head = nn.Linear(encoder_dim, 1, bias=False)


@fault(Kind.PRETEXT, r"no gradient reaches: linear\.weight")
class LeavesEncoderUntrained(Healthy):
    def scores(self, views, encodings):
        encoding = encodings[0]
        return super().scores(views, [Encoding(encoding.residue.detach(), encoding.protein)])


@fault(Kind.PRETEXT, "a state is not saved")
class HidesState(Healthy):
    def __init__(self, settings, *, encoder_dim):
        super().__init__(settings, encoder_dim=encoder_dim)
        self.scale = torch.rand(21) + 0.5

    def scores(self, views, encodings):
        return super().scores(views, encodings) * self.scale


@fault(Kind.PRETEXT, r"under bfloat16 autocast the loss is torch\.bfloat16")
class LosesPrecision(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.to(encodings[0].residue.dtype))


@fault(Kind.PRETEXT, r"would fail on a GPU: aten\.add\.Tensor gets tensors on cuda:0, and \[\(5,\)\]")
class LeavesDrawsOnTheCPU(Healthy):
    def chosen(self, batch, draws):
        return batch.ptr[:-1] + uniform_index(draws, torch.ones(len(batch), dtype=torch.int64), batch.lengths)


@fault(Kind.PRETEXT, "num_samples is 1 for a batch and 2 for its parts together")
class CountsBatches(Healthy):
    def loss(self, views, encodings):
        return replace(super().loss(views, encodings), num_samples=1)


@fault(Kind.PRETEXT, r"num_samples is \d+ for a batch and \d+ for its parts together")
class CountsResiduesSquared(Healthy):
    def loss(self, views, encodings):
        return replace(super().loss(views, encodings), num_samples=views[0].batch.num_residues ** 2)


@fault(Kind.PRETEXT, "the loss of a batch is .*, but .* over its parts, weighted by num_samples")
class CountsResidues(Healthy):
    """A mean over proteins that is weighted by residues."""

    def loss(self, views, encodings):
        return replace(super().loss(views, encodings), num_samples=views[0].batch.num_residues)


@fault(Kind.PRETEXT, "the loss of a batch is .*, but .* over its parts, weighted by num_samples")
class SumsInsteadOfMeans(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss * output.num_samples)


@fault(Kind.PRETEXT, "couples_proteins = True")
class ComparesProteins(Healthy):
    """A contrast between the proteins of a batch, undeclared."""

    def loss(self, views, encodings):
        scores = encodings[0].protein @ encodings[0].protein.T
        output = super().loss(views, encodings)
        return replace(
            output, loss=output.loss + cross_entropy(scores, torch.arange(len(scores), device=scores.device))
        )


@fault(Kind.PRETEXT, "the view of protein|the loss of a batch is")
class RanksTargetsInTheBatch(Healthy):
    """Targets are relative to the commonest type of the batch."""

    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        shift = int(batch.residue_type.bincount().argmax())
        target = (view.targets["residue_type"] + shift) % 21
        return (replace(view, targets={**view.targets, "residue_type": target}),)


@fault(Kind.PRETEXT, "the loss is NaN or infinite where nothing can be predicted")
class DividesByKnownTypes(Healthy):
    def loss(self, views, encodings):
        scores, target = self.scores(views, encodings), views[0].targets["residue_type"]
        known = target != UNKNOWN
        return TaskOutput(cross_entropy(scores[known], target[known]), int(known.sum()))


@fault(Kind.PRETEXT, "the loss is NaN or infinite where nothing can be predicted")
class DividesByNeighbours(Healthy):
    """Divides by the number of neighbours in the sequence, which is 0 for single residues."""

    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        batch = views[0].batch
        spread = (batch.lengths - 1).float()
        return replace(output, loss=output.loss * (spread.sum() / spread.sum()))


@fault(Kind.PRETEXT, "view 0 has atoms in its mask without coordinates")
class RemovesCoordinatesNotTheMask(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        backbone = view.batch.backbone.clone()
        backbone[view.targets["residue"], 0] = torch.nan
        return (replace(view, batch=view.batch.replace(backbone=backbone)),)


@fault(Kind.PRETEXT, "view 0 has atoms in its mask without coordinates")
class AddsAtomsToTheMask(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, batch=view.batch.replace(atom_mask=torch.ones_like(batch.atom_mask))),)


@fault(Kind.PRETEXT, "its views show the residue types that are their targets")
class ForgetsToMask(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, batch=batch),)


@fault(Kind.PRETEXT, "its views show the residue types that are their targets")
class MasksTheNextResidue(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        residue = batch.ptr[:-1] + (view.targets["residue"] - batch.ptr[:-1] + 1) % batch.lengths
        masked = batch.replace(residue_type=batch.residue_type.index_fill(0, residue, MASKED))
        return (replace(view, batch=masked),)


@fault(Kind.PRETEXT, "declares removes_edges, but its views have all edges")
class KeepsItsEdges(Healthy):
    removes_edges = True


@fault(Kind.PRETEXT, "labels change its views: .*batch.residue_type")
class MasksByLabels(Healthy):
    def views(self, batch, build_graph, draws):
        if batch.labels is not None and batch.labels[0, 0] > 0:
            return (replace(super().views(batch, build_graph, draws)[0], batch=batch),)
        return super().views(batch, build_graph, draws)


@fault(Kind.PRETEXT, "labels change its views: .*targets.residue_type")
class PredictsLabels(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        if batch.labels is None:
            return (view,)
        return (replace(view, targets={**view.targets, "residue_type": batch.labels[:, 0].long() % 20}),)


@valid(Kind.PRETEXT)
class WeighsItsProteins(Healthy):
    """A mean weighted by confidence: num_samples is a fraction."""

    def loss(self, views, encodings):
        scores, target = self.scores(views, encodings), views[0].targets["residue_type"]
        weight = 0.25 + views[0].batch.lengths.remainder(3).float() / 4
        total = float(weight.sum())
        return TaskOutput((cross_entropy(scores, target, reduction="none") * weight).sum() / total, total)


@valid(Kind.PRETEXT)
class LeavesUnknownTypesOut(Healthy):
    """Without a known type, the loss is zero with a gradient."""

    def loss(self, views, encodings):
        scores, target = self.scores(views, encodings), views[0].targets["residue_type"]
        known = (target != UNKNOWN).float()
        total = float(known.sum())
        loss = (cross_entropy(scores, target, reduction="none") * known).sum() / max(total, 1.0)
        return TaskOutput(loss, total)


@valid(Kind.PRETEXT)
class DeclaresTheContrast(ComparesProteins):
    couples_proteins = True


@valid(Kind.PRETEXT)
class HasTwoViews(Healthy):
    """The second view is the batch itself."""

    def views(self, batch, build_graph, draws):
        return (*super().views(batch, build_graph, draws), View(batch, build_graph(batch), {}))


@valid(Kind.PRETEXT)
class KeepsSomeTypesVisible(Healthy):
    """As BERT does: one in four of the residues that it asks for stays visible."""

    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        residue = view.targets["residue"]
        shown = residue[(residue - batch.ptr[:-1]) % 4 == 0]
        types = view.batch.residue_type.index_copy(0, shown, batch.residue_type[shown])
        return (replace(view, batch=view.batch.replace(residue_type=types)),)
