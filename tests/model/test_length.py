"""Long sequences: whole, in windows, cut, or refused."""

from __future__ import annotations

import logging
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, Protein, ProteinBatch
from esmgn_core.errors import RunError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import JointEncoder
from esmgn_core.model.length import LengthPolicy, windows_of
from esmgn_core.protocols import GraphBuilder, LanguageModel
from esmgn_core.settings import ComponentSettings, LengthTable


class Counting(nn.Module):
    """Tells each residue its position in the sequence it is read in, and that sequence's length.

    Anything that is read by itself is one sequence; protein representations are marked by 100.
    """

    Settings = ComponentSettings
    output_dim = 2

    def __init__(self, readout: str = "mean") -> None:
        super().__init__()
        self.settings = SimpleNamespace(readout=readout)
        self.longest = 0

    def forward(self, batch: ProteinBatch) -> Encoding:
        lengths = batch.sequence_ptr().diff()
        self.longest = max(self.longest, int(lengths.max()))
        position = torch.cat([torch.arange(int(length)) for length in lengths])
        residue = torch.stack([position, lengths.repeat_interleave(lengths)], dim=1).float()
        return Encoding(residue, Encoding.from_residues(residue, batch).protein + 100)


class Model(Counting):
    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        return self(batch).residue[:, :1].expand(-1, 20)


def batch_of(*chains: tuple[int, ...]) -> ProteinBatch:
    """Proteins p0, p1, ... of chains of the given lengths."""
    proteins = []
    for number, lengths in enumerate(chains):
        chain = torch.cat([torch.full((length,), i) for i, length in enumerate(lengths)])
        zeros = torch.zeros(len(chain), dtype=torch.int64)
        proteins.append(
            Protein(
                f"p{number}",
                zeros,
                torch.zeros(len(chain), 4, 3),
                torch.ones(len(chain), 4, dtype=torch.bool),
                torch.arange(len(chain)),
                chain,
            )
        )
    return ProteinBatch.from_proteins(proteins)


def policy(joins_chains: bool = False, **settings: Any) -> LengthPolicy:
    return LengthPolicy(LengthTable(**settings), joins_chains=joins_chains)


def test_full_changes_nothing() -> None:
    batch, encoder = batch_of((5000,)), Counting()
    assert policy().prepare(batch) is batch
    assert policy().reading(encoder) is encoder


def test_windows_are_averaged_where_they_overlap_and_no_read_is_longer() -> None:
    """9 residues in windows of 4 that share 1: residue 3 is last in one window and first in the next."""
    encoder = Counting()
    reader = policy(policy="window", max_residues=4, overlap=1).reading(encoder)
    encoding = reader(batch_of((9,)))
    # windows 0-3, 3-6, 5-8
    assert encoding.residue[:, 0].tolist() == [0, 1, 2, (3 + 0) / 2, 1, (2 + 0) / 2, (3 + 1) / 2, 2, 3]
    assert encoding.residue[:, 1].tolist() == [4] * 9
    assert encoder.longest == 4
    assert torch.allclose(encoding.protein[0], encoding.residue.mean(dim=0))


def test_proteins_without_a_long_sequence_are_read_as_they_are() -> None:
    """Also what the encoder itself says of the whole protein; an empty one is no obstacle."""
    reader = policy(policy="window", max_residues=4, overlap=2).reading(Counting())
    batch = batch_of((2, 2), (7,), (3,), (1,))
    batch = batch.select(torch.arange(batch.num_residues) != 14)
    encoding, plain = reader(batch), Counting()(batch)
    short = batch.protein_index != 1
    assert torch.equal(encoding.residue[short], plain.residue[short])
    assert torch.equal(encoding.protein[[0, 2, 3]], plain.protein[[0, 2, 3]])
    assert not torch.equal(encoding.protein[1], plain.protein[1])
    same = batch_of((4,), (3, 4))
    assert torch.equal(reader(same).protein, Counting()(same).protein)


@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_protein_representations_follow_the_encoders_readout(readout: str) -> None:
    encoding = policy(policy="window", max_residues=4, overlap=2).reading(Counting(readout))(batch_of((9,)))
    assert torch.allclose(encoding.protein[0], getattr(encoding.residue, readout)(dim=0))


def test_chains_are_windowed_apart_unless_the_encoder_joins_them() -> None:
    batch = batch_of((6, 3))
    settings = {"policy": "window", "max_residues": 4, "overlap": 0}
    apart = policy(**settings).reading(Counting())(batch)
    assert apart.residue[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 0, 1, 2]
    encoder = Counting()
    joined = policy(joins_chains=True, **settings).reading(encoder)(batch)
    # windows 0-3, 4-7 and 5-8; the encoder of this test tells chains apart, at residue 6
    assert joined.residue[:, 0].tolist() == [0, 1, 2, 3, 0, (1 + 0) / 2, 0, 1, 2]


def test_a_language_model_stays_one_and_others_do_not_become_one() -> None:
    window = policy(policy="window", max_residues=4, overlap=1)
    batch = batch_of((9,), (2,))
    model = window.reading(Model())
    assert isinstance(model, LanguageModel)
    assert torch.equal(model.residue_logits(batch)[:, 0], model(batch).residue[:, 0])
    assert not isinstance(window.reading(Counting()), LanguageModel)


def test_truncate_keeps_the_beginning_of_every_sequence_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cutting = policy(policy="truncate", max_residues=4)
    batch = batch_of((6, 5), (3,))
    with caplog.at_level(logging.WARNING):
        cut = cutting.prepare(batch)
        cutting.prepare(batch)
    assert cut.lengths.tolist() == [8, 3]
    assert cut.residue_index.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 0, 1, 2]
    [warning] = caplog.messages
    assert warning.startswith("sequences longer than 4 residues were cut 2 times, 3 residues left out")
    assert (cutting.num_cut, cutting.num_residues_cut) == (4, 6)
    whole = policy(joins_chains=True, policy="truncate", max_residues=4).prepare(batch)
    assert whole.lengths.tolist() == [4, 3]
    assert policy(policy="truncate", max_residues=6).prepare(batch) is batch


def test_error_names_the_protein_and_its_length() -> None:
    with pytest.raises(RunError) as caught:
        policy(policy="error", max_residues=4).prepare(batch_of((3,), (2, 6), (5,)))
    assert str(caught.value).splitlines() == [
        "protein 'p1' has a sequence of 6 residues: length.max_residues is 4 (length.policy = error)",
        "  read it whole, in windows or truncated: --set length.policy=full, window or truncate",
        "  see: esmgn show length",
    ]


@pytest.mark.parametrize("length", [1, 5, 16, 17, 100])
@pytest.mark.parametrize("overlap", [0, 3, 15])
def test_windows_cover_everything_and_share_enough(length: int, overlap: int) -> None:
    windows = windows_of(2, 2 + length, 16, overlap)
    assert windows[0][0] == 2
    assert windows[-1][1] == 2 + length
    assert {end - first for first, end in windows} == {min(length, 16)}
    for (_, end), (first, _) in pairwise(windows):
        assert end - first >= overlap


def joint(*assignments: str) -> tuple[JointEncoder, GraphBuilder]:
    tables = parse_assignments(["struct.num_layers=1", "struct.hidden_dim=8", *assignments])
    blueprint = resolve(discover(), configure(discover(), [{"seq": {"name": "esm2_tiny"}}, tables]))
    return blueprint.encoder().eval(), blueprint.graph()


@torch.no_grad()
def test_the_joint_encoder_reads_by_the_policy_of_its_run() -> None:
    """Windows change what the sequence encoder says of a long protein, and nothing of a short one."""
    batch = batch_of((60,), (20,))
    batch = batch.replace(residue_type=torch.arange(80) % 20, backbone=torch.randn(80, 4, 3))
    (whole, build_graph), (windows, _) = (
        joint(),
        joint("length.policy=window", "length.max_residues=40", "length.overlap=10"),
    )
    graph = build_graph(batch)
    expected, found = whole(batch, graph), windows(batch, graph)
    assert torch.allclose(found.protein[1], expected.protein[1], atol=1e-6)
    assert not torch.allclose(found.protein[0], expected.protein[0], atol=1e-3)
    assert windows.prepare(batch) is batch
    cutting, _ = joint("length.policy=truncate", "length.max_residues=40")
    assert cutting.prepare(batch).lengths.tolist() == [40, 20]
