"""The conformance kit catches pretext tasks that break their contract."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from esmgn_core.alphabet import MASKED
from esmgn_core.batch import Encoding, TaskOutput
from esmgn_core.draws import uniform_index
from esmgn_core.graph import View
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class


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


class ChangesBatch(Healthy):
    def views(self, batch, build_graph, draws):
        batch.residue_type[self.chosen(batch, draws)] = MASKED
        return (View(batch, build_graph(batch), {}),)


class IgnoresDraws(Healthy):
    def chosen(self, batch, draws):
        return batch.ptr[:-1] + (torch.rand(len(batch)) * batch.lengths).long()


class DrawsForTheWholeBatch(Healthy):
    def chosen(self, batch, draws):
        count = torch.zeros(len(batch), dtype=torch.int64)
        count[0] = 1
        share = draws.uniform(count)
        return batch.ptr[:-1] + (share * batch.lengths).long()


class ReturnsOneView(Healthy):
    def views(self, batch, build_graph, draws):
        return super().views(batch, build_graph, draws)[0]


class ReturnsNoView(Healthy):
    def views(self, batch, build_graph, draws):
        return ()


class LosesProtein(Healthy):
    def views(self, batch, build_graph, draws):
        short = batch.select(batch.protein_index < len(batch) - 1)
        short = short.replace(ptr=short.ptr[:-1], names=batch.names[:-1])
        return super().views(short, build_graph, draws_for(len(short)))


def draws_for(num_proteins):
    from esmgn_core.draws import SeededDraws

    return SeededDraws(1, 1, range(num_proteins))


class LosesRows(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, batch=view.batch.replace(backbone=view.batch.backbone[1:])),)


class KeepsOldGraph(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        half = view.batch.select(torch.arange(batch.num_residues) % 2 == 0)
        return (View(half, view.graph, view.targets),)


class TargetsAreLists(Healthy):
    def views(self, batch, build_graph, draws):
        (view,) = super().views(batch, build_graph, draws)
        return (replace(view, targets={**view.targets, "where": [1, 2]}),)


class ReturnsTensor(Healthy):
    def loss(self, views, encodings):
        return super().loss(views, encodings).loss


class LossHasDimensions(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.unsqueeze(0))


class LossIsNotFinite(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss / 0)


class LossIsDetached(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.detach())


class CountsWithTensor(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, num_samples=torch.tensor(output.num_samples))


class MetricsCarryGradient(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, metrics={"cross_entropy": output.loss})


class MetricsAreNumbers(Healthy):
    def loss(self, views, encodings):
        return replace(super().loss(views, encodings), metrics={"accuracy": 0.5})


class ChangesEncodings(Healthy):
    def loss(self, views, encodings):
        with torch.no_grad():
            encodings[0].residue.mul_(2)
        return super().loss(views, encodings)


class HasUnusedHead(Healthy):
    def __init__(self, settings, *, encoder_dim):
        super().__init__(settings, encoder_dim=encoder_dim)
        self.second_head = nn.Linear(encoder_dim, 1, bias=False)


class LeavesEncoderUntrained(Healthy):
    def scores(self, views, encodings):
        encoding = encodings[0]
        return super().scores(views, [Encoding(encoding.residue.detach(), encoding.protein)])


class HidesState(Healthy):
    def __init__(self, settings, *, encoder_dim):
        super().__init__(settings, encoder_dim=encoder_dim)
        self.scale = torch.rand(21) + 0.5

    def scores(self, views, encodings):
        return super().scores(views, encodings) * self.scale


class LosesPrecision(Healthy):
    def loss(self, views, encodings):
        output = super().loss(views, encodings)
        return replace(output, loss=output.loss.to(encodings[0].residue.dtype))


class LeavesDrawsOnTheCPU(Healthy):
    def chosen(self, batch, draws):
        return batch.ptr[:-1] + uniform_index(draws, torch.ones(len(batch), dtype=torch.int64), batch.lengths)


def test_a_healthy_pretext_task_passes():
    check_class(Kind.PRETEXT, Healthy)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (ChangesBatch, r"changes its input in place: batch\.residue_type"),
        (IgnoresDraws, r"the same draws give different views: 0\.batch\.residue_type"),
        (DrawsForTheWholeBatch, "the view of protein 'long' depends on others of the batch"),
        (ReturnsOneView, r"views\(\) does not return a tuple of at least one View"),
        (ReturnsNoView, r"views\(\) does not return a tuple of at least one View"),
        (LosesProtein, "view 0 does not have as many proteins as the batch"),
        (LosesRows, "tensors of view 0 disagree about the number of residues"),
        (KeepsOldGraph, "an edge joins residues that are not in the batch"),
        (TargetsAreLists, "targets of view 0 are not tensors: where"),
        (ReturnsTensor, r"loss\(\) returns Tensor, expected TaskOutput"),
        (LossHasDimensions, r"loss is not a float tensor of shape \[\]"),
        (LossIsNotFinite, "loss is not finite"),
        (LossIsDetached, "loss has no gradient"),
        (CountsWithTensor, r"num_samples is tensor\(5\), expected a positive integer"),
        (MetricsCarryGradient, "metric 'cross_entropy' is not detached"),
        (MetricsAreNumbers, r"metric 'accuracy' is not a float tensor of shape \[\]"),
        (ChangesEncodings, r"changes its input in place: encodings\.0\.residue"),
        (HasUnusedHead, r"no gradient reaches: second_head\.weight"),
        (LeavesEncoderUntrained, r"no gradient reaches: linear\.weight"),
        (HidesState, "a state is not saved"),
        (
            LeavesDrawsOnTheCPU,
            r"would fail on a GPU: aten\.add\.Tensor gets tensors on cuda:0, and \[\(5,\)\]",
        ),
        (LosesPrecision, r"under bfloat16 autocast the loss is torch\.bfloat16"),
    ],
)
def test_a_broken_pretext_task_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^pretext task '{component.__name__}'.*: {message}"):
        check_class(Kind.PRETEXT, component)
