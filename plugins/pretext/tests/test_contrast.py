"""Multiview contrast: the windows, their edges, and the proteins that are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import example_proteins
from esmgn_core.testing.examples import ExampleGraph
from esmgn_pretext.multiview_contrast import MultiviewContrast


def task(dim=6, **settings) -> MultiviewContrast:
    torch.manual_seed(0)
    return MultiviewContrast(MultiviewContrast.Settings(**settings), encoder_dim=dim)


def encodings_of(first: Tensor, second: Tensor) -> list[Encoding]:
    return [Encoding(torch.zeros(0, first.shape[1]), protein) for protein in (first, second)]


def proteins(num: int, dim: int = 6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(num, dim, generator=generator) for _ in range(2)]


def literal(x: Tensor, y: Tensor, tau: float = 0.07) -> float:
    """The formula, protein by protein."""
    total = 0.0
    for a in range(len(x)):
        scores = [float(torch.cosine_similarity(x[a], y[b], dim=0)) / tau for b in range(len(y))]
        total -= scores[a] - torch.tensor(scores).logsumexp(0).item()
    return total / len(x)


def test_worked_value():
    """Scores 14.2857 and 10.1015, 0 and 10.1015: loss 0.0075803."""
    contrast = task(2)
    contrast.projection = nn.Identity()
    x, y = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [1, 1]])
    output = contrast.loss([], encodings_of(x, y))
    assert float(output.loss) == pytest.approx(0.0075803, rel=1e-4)
    assert (output.num_samples, float(output.metrics["retrieval"])) == (2, 1.0)


def test_loss_is_the_formula_and_runs_one_way():
    contrast, (x, y) = task(), proteins(7)
    with torch.no_grad():
        ours = float(contrast.loss([], encodings_of(x, y)).loss)
        forth, back = (literal(*map(contrast.projection, pair)) for pair in ((x, y), (y, x)))
        both = task(symmetric=True).loss([], encodings_of(x, y)).loss
    assert ours == pytest.approx(forth, rel=1e-5)
    assert float(both) == pytest.approx((forth + back) / 2, rel=1e-5)
    assert forth != pytest.approx(back, rel=1e-2)


def test_a_large_pass_is_cut_into_groups_of_equal_size():
    """Seven in groups of at most three are three, two and two; each protein counts the same."""
    contrast, (x, y) = task(group_size=3), proteins(7)
    with torch.no_grad():
        ours = float(contrast.loss([], encodings_of(x, y)).loss)
        parts = [slice(0, 3), slice(3, 5), slice(5, 7)]
        plain = [literal(contrast.projection(x[p]), contrast.projection(y[p])) for p in parts]
        whole = float(task(group_size=0).loss([], encodings_of(x, y)).loss)
        everyone = literal(contrast.projection(x), contrast.projection(y))
    assert ours == pytest.approx((3 * plain[0] + 2 * plain[1] + 2 * plain[2]) / 7, rel=1e-5)
    assert whole == pytest.approx(everyone, rel=1e-5)


def test_a_protein_alone_has_nothing_to_tell():
    contrast, (x, y) = task(), proteins(1)
    output = contrast.loss([], encodings_of(x.requires_grad_(), y))
    output.loss.backward()
    assert float(output.loss.detach()) == 0
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_windows_hold_the_edges_of_the_whole_protein(batch, build_graph):
    """A window's edges are those drawn on the whole protein, where both ends are inside."""
    whole = build_graph(batch)
    for view in task(crop_length=12).views(batch, build_graph, no_edge_masks(batch)):
        assert view.batch.lengths.tolist() == batch.lengths.clamp(max=12).tolist()
        first = [
            int(ptr) + index for ptr, index in zip(batch.ptr, starts_of(view.batch, batch), strict=False)
        ]
        inside = torch.zeros(batch.num_residues, dtype=torch.bool)
        for start, length in zip(first, view.batch.lengths.tolist(), strict=True):
            inside[start : start + length] = True
        expected = whole.select(inside)
        assert torch.equal(view.graph.edge_index, expected.edge_index)
        assert torch.equal(view.graph.relation, expected.relation)


def test_builders_are_asked_only_for_the_edges_into_the_windows(batch, build_graph):
    """Of a builder that can build a part of the edges, only that part is requested; edges are the same."""
    asked: list[int] = []

    class Part(ExampleGraph):
        def edges_into(self, batch: ProteinBatch, residues: Tensor) -> ResidueGraph:
            asked.append(int(residues.sum()))
            graph = self(batch)
            return graph.keep_edges(residues[graph.edge_index[1]])

    whole, part = (
        task(crop_length=12).views(batch, draw, no_edge_masks(batch)) for draw in (build_graph, Part())
    )
    [residues] = asked
    one = int(batch.lengths.clamp(max=12).sum())
    assert one <= residues <= 2 * one < batch.num_residues
    for first, second in zip(whole, part, strict=True):
        assert torch.equal(first.graph.edge_index, second.graph.edge_index)


def starts_of(view: ProteinBatch, batch: ProteinBatch) -> list[int]:
    """Where each window begins in its protein, found by its coordinates."""
    first = view.ca[view.ptr[:-1]]
    found = [
        (batch.ca[batch.ptr[b] : batch.ptr[b + 1]] == first[b]).all(dim=1).nonzero()[0, 0]
        for b in range(len(batch))
    ]
    return [int(row) for row in found]


def no_edge_masks(batch: ProteinBatch) -> SeededDraws:
    """Streams of a step in which neither view's edges are masked."""
    for step in range(40):
        if bool((SeededDraws(0, step, [0]).shared(2) < 0.5).all()):
            return SeededDraws(0, step, range(len(batch)))
    raise AssertionError


def test_whole_short_proteins_share_one_sequence(batch, build_graph, draws):
    first, second = task(crop_length=0).views(batch, build_graph, draws)
    assert first.batch is second.batch


def test_edges_are_masked_in_half_of_the_views_for_the_whole_step(build_graph):
    """One choice for each view of a step, whatever proteins a process holds; shares as set."""
    kinds = []
    for step in range(30):
        parts = []
        for positions in ([0, 3, 4], [3, 4]):
            batch = ProteinBatch.from_proteins([example_proteins()[p] for p in positions])
            views = task(crop_length=0).views(batch, build_graph, SeededDraws(0, step, positions))
            shares = [view.graph.num_edges / build_graph(batch).num_edges for view in views]
            parts.append([share < 1 for share in shares])
            assert all(share == 1 or 0.8 < share < 0.92 for share in shares)
        assert parts[0] == parts[1]
        kinds += parts[0]
    assert 18 < sum(kinds) < 42


def _process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    contrast = task(gather=True, symmetric=True)
    both = [x.split((3, 5))[rank].clone().requires_grad_() for x in proteins(8)]
    output = contrast.loss([], encodings_of(*both))
    (output.loss * output.num_samples).backward()
    gradients = [p.grad for p in contrast.parameters()]
    torch.save((output.loss.detach(), [x.grad for x in both], gradients), Path(folder) / f"{rank}.pt")
    with torch.no_grad():
        alone = contrast.eval().loss([], encodings_of(*both)).loss
        groups = task(symmetric=True).loss([], encodings_of(*both)).loss
    assert torch.equal(alone, groups)
    dist.destroy_process_group()


@pytest.mark.slow
def test_gathered_processes_give_the_loss_and_gradients_of_one(tmp_path):
    """Three proteins in one process and five in the other, against eight in one."""
    mp.spawn(_process, args=(str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    contrast = task(gather=True, symmetric=True)
    both = [x.requires_grad_() for x in proteins(8)]
    output = contrast.loss([], encodings_of(*both))
    (output.loss * 8).backward()
    loss = (3 * parts[0][0] + 5 * parts[1][0]) / 8
    torch.testing.assert_close(loss, output.loss.detach())
    for number, x in enumerate(both):
        torch.testing.assert_close(torch.cat([part[1][number] for part in parts]), x.grad)
    for number, parameter in enumerate(contrast.parameters()):
        torch.testing.assert_close(parts[0][2][number] + parts[1][2][number], parameter.grad)
