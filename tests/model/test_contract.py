"""What components return is checked on the first pass of a run, and named with their package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.engine.session import start_run
from esmgn_core.errors import PluginError
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.settings import ComponentSettings, RunConfig
from esmgn_core.spec import Kind
from esmgn_core.testing import example_batch

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from ..conftest import PluginHost
from ..engine.conftest import SMALL


class Base(nn.Module):
    Settings = ComponentSettings

    def __init__(self, settings: Any, **widths: int) -> None:  # noqa: ARG002 - the contract's arguments
        super().__init__()
        self.output_dim = self.num_relations = 4
        self.embed = nn.Embedding(32, 4)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        return sequence_dim


class Narrow(Base):
    def forward(self, batch: Any, *_: Any) -> Encoding:
        return Encoding.from_residues(self.embed(batch.residue_type)[:, :3], batch)


class Infinite(Base):
    def forward(self, batch: Any, *_: Any) -> Encoding:
        return Encoding.from_residues(self.embed(batch.residue_type) / 0, batch)


class Bare(Base):
    def forward(self, batch: Any, *_: Any) -> Any:
        return self.embed(batch.residue_type)


class Outside(Base):
    def forward(self, batch: Any) -> ResidueGraph:
        edge = torch.full((2, 1), batch.num_residues)
        return ResidueGraph(edge, torch.zeros(1, dtype=torch.int64), self.num_relations)


class Listed(Base):
    def views(self, batch: Any, build_graph: Any, draws: Any) -> Any:  # noqa: ARG002 - the contract's arguments
        return [batch]

    def loss(self, views: Any, encodings: Any) -> Any:
        raise NotImplementedError


class Number(Base):
    def views(self, batch: Any, build_graph: Any, draws: Any) -> Any:  # noqa: ARG002 - the contract's arguments
        return (View(batch, build_graph(batch), {}),)

    def loss(self, views: Any, encodings: Any) -> Any:  # noqa: ARG002 - the contract's arguments
        return encodings[0].protein.sum()


CASES = [
    (Kind.SEQ, Narrow, r"residue representations have shape \(\d+, 3\), expected \(\d+, output_dim = 4\)"),
    (Kind.SEQ, Infinite, "residue representations are not all finite"),
    (Kind.SEQ, Bare, "returns Tensor, expected Encoding"),
    (Kind.STRUCT, Narrow, "residue representations have shape"),
    (Kind.STRUCT, Bare, "returns Tensor, expected Encoding"),
    (Kind.FUSE, Bare, "returns Tensor, expected Encoding"),
    (Kind.FUSE, Infinite, "residue representations are not all finite"),
    (Kind.GRAPH, Outside, "an edge joins residues that are not in the batch"),
    (Kind.PRETEXT, Listed, r"views\(\) does not return a tuple of at least one View"),
    (Kind.PRETEXT, Number, r"loss\(\) returns Tensor, expected TaskOutput"),
]


def config_with(kind: Kind) -> RunConfig:
    layers = [parse_assignments(SMALL), {kind.value: {"name": "wrong"}}]
    return configure(discover(), layers)


@pytest.mark.parametrize(("kind", "component", "problem"), CASES)
def test_a_wrong_result_names_component_and_package(
    host: PluginHost, tmp_path: Path, kind: Kind, component: type, problem: str
) -> None:
    host.install("wrong", host.component(kind, "wrong", component))
    title = rf"^{kind.long_name} 'wrong' \(esmgn-wrong 1.0\): {problem}"
    with pytest.raises(PluginError, match=title) as caught:
        start_run(discover(), config_with(kind), out=tmp_path / "run")
    assert caught.value.hints == (f"check it: esmgn plugin check {kind}:wrong",)


def test_check_reports_it_before_a_run(host: PluginHost, esmgn: Esmgn) -> None:  # noqa: F811
    host.install("wrong", host.component(Kind.SEQ, "wrong", Narrow))
    sets = [part for text in SMALL if not text.startswith("seq") for part in ("--set", text)]
    done = esmgn("check", "--seq", "wrong", *sets)
    assert done.status == 2
    assert "problem  sequence encoder 'wrong' (esmgn-wrong 1.0): residue representations have" in done.out
    assert "Traceback" not in done.out + done.err


def test_later_passes_are_not_checked() -> None:
    blueprint = resolve(discover(), configure(discover(), [parse_assignments(SMALL)]))
    encoder, batch = blueprint.encoder().eval(), example_batch()
    assert encoder.unchecked
    with torch.no_grad():
        encoder(batch, blueprint.graph()(batch))
    assert not encoder.unchecked
