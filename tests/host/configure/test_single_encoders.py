"""Fusers that read one encoder: the other has no table, and its flags are refused."""

from __future__ import annotations

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import Tables, configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind

REGISTRY = discover()
SEQUENCE: Tables = {"fuse": {"name": "sequence"}}
STRUCTURE: Tables = {"fuse": {"name": "structure"}}
TINY: Tables = {"seq": {"name": "esm2_tiny"}}
SMALL: Tables = {"struct": {"name": "gearnet", "hidden_dim": 16, "num_layers": 1}}


def composed(*layers: Tables) -> RunConfig:
    return configure(REGISTRY, layers, [f"layer {number}" for number in range(len(layers))])


def test_an_encoder_that_is_not_read_has_no_table() -> None:
    assert Kind.STRUCT not in composed(TINY, SEQUENCE).kinds
    assert Kind.SEQ not in composed(SMALL, STRUCTURE).kinds


def test_a_fuser_drops_the_encoder_of_lower_layers() -> None:
    assert composed(TINY | SMALL, SEQUENCE).struct is None


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([SEQUENCE, SMALL], r"the fuser 'sequence' does not read a structure encoder \(layer 1\)"),
        ([SEQUENCE | SMALL], r"'sequence' does not read a structure encoder \(layer 0\)"),
        ([STRUCTURE, {"seq": {"readout": "sum"}}], r"'structure' does not read a sequence encoder"),
    ],
)
def test_an_encoder_that_is_not_read_is_refused(layers: list[Tables], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        composed(*layers)


@pytest.mark.parametrize(("task", "drawn"), [("residue_type", False), ("distance", True)])
def test_a_graph_is_drawn_only_if_the_task_reads_it(task: str, drawn: bool) -> None:
    run = resolve(REGISTRY, composed(TINY | SEQUENCE | {"pretext": {"name": task}}))
    assert (Kind.GRAPH in run.parts) == drawn
    assert (run.resolved().graph is not None) == drawn


def test_a_combined_task_reads_the_graph_if_a_part_does() -> None:
    for names, drawn in (("residue_type+distance", True), ("residue_type+multiview_contrast", False)):
        run = resolve(REGISTRY, composed(TINY | SEQUENCE | {"pretext": {"name": names}}))
        assert (Kind.GRAPH in run.parts) == drawn


def test_residue_features_need_a_structure_encoder() -> None:
    run = resolve(REGISTRY, composed(TINY | SEQUENCE | {"inputs": {"residue": ["exposure"]}}))
    with pytest.raises(SettingsError, match=r"inputs.residue is read by a structure encoder"):
        run.encoder()


@pytest.mark.parametrize("recipe", ["ec_sequence", "go_mf_sequence", "go_bp_sequence", "go_cc_sequence"])
def test_published_rows_of_esm2_alone_have_a_head_of_two_layers(recipe: str) -> None:
    config = composed(dict(REGISTRY.recipe(recipe).run))
    assert config.kinds == (Kind.SEQ, Kind.FUSE, Kind.GRAPH, Kind.DOWNSTREAM, Kind.DATA)
    assert config.downstream is not None
    assert config.downstream.settings["num_layers"] == 2


def test_another_structure_encoder_joins_a_recipe_of_a_structure_encoder() -> None:
    config = composed(dict(REGISTRY.recipe("psr_structure").run), {"struct": {"name": "cdconv"}})
    assert config.seq is None
    assert config.struct is not None
    assert (config.struct.name, config.train.epochs) == ("cdconv", 50)
