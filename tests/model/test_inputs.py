"""Features of residues reach the structure encoder, and nothing is made up where they are unknown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import DataError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.inputs import inputs_dim, residue_inputs
from esmgn_core.testing import example_proteins

NAN = math.nan


def with_features(protein: Protein, seed: int = 0) -> Protein:
    draw = torch.Generator().manual_seed(seed)
    state = torch.randint(0, 8, (len(protein),), generator=draw).float()
    area = 250 * torch.rand(len(protein), generator=draw)
    return replace(protein, features={"secondary_structure": state, "exposure": area})


def packed(seed: int = 0) -> ProteinBatch:
    proteins = [protein for protein in example_proteins() if protein.atom_mask.all()]
    return ProteinBatch.from_proteins([with_features(protein, seed) for protein in proteins])


def short(features: dict[str, list[float]]) -> ProteinBatch:
    length = len(next(iter(features.values())))
    batch = ProteinBatch.from_proteins(example_proteins()[:1]).select(torch.arange(40) < length)
    return batch.replace(features={name: torch.tensor(values) for name, values in features.items()})


def blueprint(struct: str, *inputs: str, fuse: str = "serial") -> Blueprint:
    registry = discover()
    names = ",".join(f'"{name}"' for name in inputs)
    changes = parse_assignments(
        [f"struct.name={struct}", "seq.name=esm2_tiny", f"fuse.name={fuse}", f"inputs.residue=[{names}]"]
    )
    return resolve(registry, configure(registry, [changes]))


def test_columns_are_states_and_numbers_with_a_mark_where_they_are_known():
    batch = short({"secondary_structure": [0, 2, 7, NAN], "exposure": [50, 0, NAN, 200]})
    columns = residue_inputs(batch, ["secondary_structure_3", "exposure"])
    assert columns.tolist() == [
        [1, 0, 0, 0.5, 1],
        [0, 1, 0, 0, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 2, 1],
    ]
    eight = residue_inputs(batch, ["secondary_structure"])
    assert eight.argmax(1).tolist()[:3] == [0, 2, 7]
    assert eight.sum(1).tolist() == [1, 1, 1, 0]
    assert inputs_dim(["secondary_structure", "secondary_structure_3", "exposure", "charge"]) == 8 + 3 + 2 + 2


def test_a_feature_nobody_knows_is_taken_as_a_number():
    assert residue_inputs(short({"charge": [-1.0, NAN]}), ["charge"]).tolist() == [[-1, 1], [0, 0]]


@pytest.mark.parametrize("struct", ["gearnet", "gvp", "cdconv"])
@pytest.mark.parametrize("fuse", ["serial", "parallel"])
def test_every_structure_encoder_takes_them(struct: str, fuse: str):
    plain = blueprint(struct, fuse=fuse)
    drawn = blueprint(struct, "secondary_structure", "exposure", fuse=fuse)
    encoder = drawn.encoder().eval()
    assert encoder.output_dim == plain.encoder().output_dim
    graph = drawn.graph()
    with torch.no_grad():
        one, same, other = (encoder(batch, graph(batch)).residue for batch in (packed(), packed(), packed(1)))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_gradients_reach_the_weights_of_the_further_columns():
    drawn = blueprint("gearnet", "exposure")
    encoder, batch = drawn.encoder().eval(), packed()
    encoder(batch, drawn.graph()(batch)).residue.square().mean().backward()
    first = next(iter(encoder.get_submodule("structure").parameters()))
    assert first.grad is not None
    assert (first.grad[:, -2:] != 0).any()


def test_data_without_the_feature_are_an_error_that_says_how_to_get_it():
    drawn = blueprint("gearnet", "exposure")
    encoder = drawn.encoder()
    batch = packed().replace(features={"secondary_structure": packed().features["secondary_structure"]})
    with pytest.raises(DataError) as caught:
        encoder(batch, drawn.graph()(batch))
    assert str(caught.value) == (
        "the structure encoder needs 'exposure' of each residue (inputs.residue), "
        "but the proteins have 'secondary_structure'\n"
        "  build a store with it: esmgn data build SOURCE... -o STORE --exposure"
    )


def test_a_misspelt_feature_gets_the_nearest_name():
    with pytest.raises(DataError, match=r"'exposre' .* no residue features\n  did you mean: exposure\?"):
        residue_inputs(packed().replace(features={}), ["exposre"])


@pytest.mark.slow
def test_a_dataset_without_the_feature_is_refused_before_anything_is_trained():
    with pytest.raises(DataError, match="needs 'exposure' of each residue"):
        blueprint("gearnet", "exposure").dataset()


def test_selected_and_moved_residues_keep_their_features():
    batch = packed()
    keep = torch.rand(batch.num_residues, generator=torch.Generator().manual_seed(3)) < 0.5
    for name, values in batch.select(keep).to("cpu").features.items():
        assert torch.equal(values, batch.features[name][keep])


def test_a_batch_has_the_features_that_all_its_proteins_have():
    one, two = (with_features(protein) for protein in example_proteins()[:2])
    two = replace(two, features={"exposure": two.features["exposure"], "charge": torch.zeros(len(two))})
    batch = ProteinBatch.from_proteins([one, two])
    assert list(batch.features) == ["exposure"]
    assert torch.equal(batch.features["exposure"][: len(one)], one.features["exposure"])
