"""What CDConv promises: symmetries, independence of proteins, pooling, odd proteins."""

from __future__ import annotations

import pytest
import torch

from esmgn_cdconv.encoder import CDConv
from esmgn_cdconv.level import Level, orientation_frames
from esmgn_core import Kind
from esmgn_core.alphabet import MASKED, UNKNOWN
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import check_component


def moved(batch: ProteinBatch, *, mirror: bool = False) -> ProteinBatch:
    torch.manual_seed(11)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn *= turn.det() * (-1 if mirror else 1)
    place = batch.backbone.double() @ turn + torch.tensor([30.0, -12.0, 5.0], dtype=torch.float64)
    return batch.replace(backbone=place.float())


@pytest.mark.parametrize(("input_dim", "expected"), [(1280, 29_992_000), (21, 29_971_856)])
def test_number_of_parameters_is_that_of_the_original(input_dim, expected):
    with torch.device("meta"):
        model = CDConv(CDConv.Settings(), input_dim=input_dim, num_relations=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model.output_dim == 2048


def test_rigid_motions_change_nothing(make_model, encode, pack, difference):
    model, batch = make_model(), pack("long", "pair", "two_chains", "single")
    assert difference(encode(model, moved(batch)).protein, encode(model, batch).protein) < 1e-4


def test_a_mirror_image_is_another_protein(make_model, encode, pack, difference):
    model, batch = make_model(), pack("long")
    assert difference(encode(model, moved(batch, mirror=True)).protein, encode(model, batch).protein) > 1e-2


def test_packing_and_order_of_proteins_change_nothing(make_model, encode, pack, difference):
    """Odd lengths among them: pooling must not pair residues of two proteins."""
    model, names = make_model(), ["two_chains", "single", "long", "pair", "predicted"]
    alone = torch.cat([encode(model, pack(name)).protein for name in names])
    assert difference(encode(model, pack(*names)).protein, alone) < 1e-5
    assert difference(encode(model, pack(*names[::-1])).protein.flip(0), alone) < 1e-5


def test_residues_share_the_representation_of_their_protein(make_model, encode, pack):
    batch = pack("two_chains", "single", "predicted")
    encoding = encode(make_model(), batch)
    assert torch.equal(encoding.residue, encoding.protein[batch.protein_index])


def test_the_readout_pools_the_points_of_the_last_level(make_model, encode, pack, difference):
    batch = pack("long", "single")
    mean, total = (encode(make_model(readout=readout), batch).protein for readout in ("mean", "sum"))
    assert difference(mean * torch.tensor([[15.0], [1.0]]), total) < 1e-6


def test_the_given_graph_is_ignored(make_model, encode, pack):
    model, batch = make_model(), pack("predicted")
    edge_index = torch.tensor([[0, 1], [1, 2]])
    graph = ResidueGraph(edge_index, torch.zeros(2, dtype=torch.int64), 1)
    found = model(batch, graph, batch.residue_one_hot)
    assert torch.equal(found.residue, encode(model, batch).residue)


def test_residue_numbers_count_up_to_ten_apart(make_model, encode, pack, difference):
    """A gap in the numbers is seen; shifting all numbers by eight, the span of a last point, is not."""
    model, batch = make_model(), pack("predicted")
    expected = encode(model, batch).protein
    shifted = batch.replace(residue_index=batch.residue_index + 8)
    gap = batch.replace(residue_index=batch.residue_index + 3 * (torch.arange(33) > 15))
    assert difference(encode(model, shifted).protein, expected) < 1e-6
    assert difference(encode(model, gap).protein, expected) > 1e-3


def test_frames_are_orthonormal_and_turn_with_the_protein(pack):
    batch = pack("long", "two_chains")
    frames = orientation_frames(batch)
    identity = torch.eye(3).expand(batch.num_residues, 3, 3)
    torch.testing.assert_close(frames @ frames.transpose(1, 2), identity, rtol=0, atol=1e-5)
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[119], frames[118])
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    turn *= turn.det()
    turned = orientation_frames(batch.replace(backbone=batch.backbone @ turn))
    torch.testing.assert_close(turned, frames @ turn, rtol=0, atol=1e-4)


def test_pooling_averages_pairs_within_proteins(pack):
    batch = pack("single", "long", "pair")
    level, pairs = Level.of(batch).pooled()
    assert level.points.ptr.tolist() == [0, 1, 61, 62]
    assert pairs.first.tolist() == [0, *range(1, 121, 2), 121]
    assert pairs.second.tolist() == [0, *range(2, 122, 2), 122]
    torch.testing.assert_close(level.points.ca[1], batch.ca[1:3].mean(0))
    assert level.points.residue_index[:4].tolist() == [0, -2, -1, 0]
    torch.testing.assert_close(level.frames[1:61].norm(dim=-1), torch.ones(60, 3))
    odd, _ = level.pooled()
    assert odd.points.ptr.tolist() == [0, 1, 31, 32]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_proteins_are_encoded(make_model, encode, pack, length):
    model, batch = make_model(), pack("long").select(torch.arange(120) < length)
    encoding = encode(model, batch)
    encoding.protein.square().sum().backward()
    assert encoding.residue.shape == (length, 64)
    assert bool(encoding.residue.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_a_straight_line_and_one_point_are_encoded(make_model, encode, pack, difference):
    """Degenerate frames are zero: finite, and the same from wherever the line is looked at."""
    model, batch = make_model(), pack("predicted")
    step = torch.tensor([2.2, -2.2, 2.2])
    line = batch.replace(backbone=(torch.arange(33.0)[:, None, None] * step).expand(-1, 4, -1))
    assert difference(encode(model, moved(line)).protein, encode(model, line).protein) < 1e-4
    point = batch.replace(backbone=torch.ones(33, 4, 3))
    assert bool(encode(model, point).protein.isfinite().all())
    assert not orientation_frames(point).any()


def test_masked_and_unknown_residues_are_encoded(make_model, encode, pack, difference):
    model, batch = make_model(), pack("predicted")
    kind = batch.residue_type.clone()
    kind[::2], kind[1::4] = MASKED, UNKNOWN
    found = encode(model, batch.replace(residue_type=kind)).protein
    assert bool(found.isfinite().all())
    assert difference(found, encode(model, batch).protein) > 1e-3


def test_dropout_acts_in_training_only(make_model, encode, pack, difference):
    model, batch = make_model(dropout=0.5), pack("predicted", "long")
    assert torch.equal(encode(model, batch).protein, encode(model, batch).protein)
    model.train()
    assert difference(encode(model, batch).protein, encode(model, batch).protein) > 1e-2


def test_the_running_statistics_move_by_a_fifth(make_model, encode, pack):
    model, batch = make_model().train(), pack("predicted", "long")
    norm = model.first_blocks[0].before[0]
    before = norm.running_mean.clone()
    seen = model.embedding(batch.residue_one_hot).mean(0)
    encode(model, batch)
    torch.testing.assert_close(norm.running_mean, 0.8 * before + 0.2 * seen.detach())


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"radii": (8.0,)}, "one entry for each level"),
        ({"hidden_dims": (2, 64, 64, 64)}, "at least 64 / base_width"),
        ({"radii": (8.0, 12.0, -1.0, 20.0)}, "greater than 0"),
        ({"num_offsets": 20}, "must be odd"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, problem):
    with pytest.raises(ValueError, match=problem):
        CDConv.Settings(**values)


def test_cdconv_keeps_the_contract_of_a_structure_encoder():
    check_component(Kind.STRUCT, "cdconv", hidden_dims=[32, 64], radii=[8, 12])
