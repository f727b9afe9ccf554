"""ESM-2 and GearNet fused give the original's outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from esmgn_core.model.joint import JointEncoder
from esmgn_esm2.encoder import ESM2
from esmgn_fusion.cross import CrossFuser
from esmgn_fusion.parallel import ParallelFuser
from esmgn_fusion.serial import SerialFuser
from esmgn_gearnet.encoder import GearNet

from .conftest import FROM_OURS, Recorded, batch_of, graph_of, relative_error

_PARTS = {"sequence_model.model.": "sequence.model.", "structure_model.": "structure."}
_NOT_IN_ENCODER = ("lm_head.", "contact_head.", "rot_emb.", "sequence_model.mapping")


def our_name(name: str) -> str | None:
    """Our name of a tensor of the original's fusion network; ``None`` for tensors we leave out."""
    if any(part in name for part in _NOT_IN_ENCODER):
        return None
    for theirs, ours in _PARTS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return f"fuser.{name}"


def build_encoder(
    recorded: Recorded,
    config: dict[str, Any],
    state: dict[str, torch.Tensor],
    fuser_class: type[SerialFuser | ParallelFuser | CrossFuser] = SerialFuser,
    **fuser_settings: int,
) -> JointEncoder:
    size, widths = config["sequence_model"], config["structure_model"]["hidden_dims"]
    sequence = ESM2(
        ESM2.Settings(
            num_layers=size["num_layers"],
            embed_dim=size["embed_dim"],
            attention_heads=size["attention_heads"],
            weights=str(recorded.root / "fusion" / "esm2_t2_tiny.pt"),
            unknown_residue="G",
            chains="concatenated",
        )
    )
    structure = GearNet(
        GearNet.Settings(hidden_dim=widths[0], num_layers=len(widths)),
        input_dim=fuser_class.structure_input_dim(sequence.output_dim),
        num_relations=7,
    )
    fuser = fuser_class(
        fuser_class.Settings(**fuser_settings),
        sequence_dim=sequence.output_dim,
        structure_dim=structure.output_dim,
    )
    encoder = JointEncoder(sequence, structure, fuser)
    ours = {name: tensor for theirs, tensor in state.items() if (name := our_name(theirs))}
    if fuser_class is not SerialFuser:
        # The original's one-hot feature is in another order of the residue types.
        order = torch.cat([FROM_OURS, torch.tensor([len(FROM_OURS)])])
        reorder_input(ours, order)
    encoder.load_state_dict(ours)
    return encoder


def reorder_input(tensors: dict[str, torch.Tensor], order: torch.Tensor) -> None:
    """Put the input columns of GearNet's first layer, of every relation, into our order."""
    for name in ("structure.layers.0.self_loop.weight", "structure.layers.0.linear.weight"):
        if name in tensors:
            columns = tensors[name].unflatten(1, (-1, len(order)))
            tensors[name] = columns[:, :, order].flatten(1)


_CASES = {
    "series": (SerialFuser, {}),
    "parallel": (ParallelFuser, {}),
    "cross": (CrossFuser, {"cross_dim": 32}),
}


def fused(recorded: Recorded, case: str) -> JointEncoder:
    config = recorded.facts(f"fusion/fusion_{case}")
    state = recorded.tensors(f"fusion/fusion_{case}.state")
    fuser_class, settings = _CASES[case]
    if case == "cross":
        settings = {"cross_dim": config["cross_dim"]}
    return build_encoder(recorded, config, state, fuser_class, **settings)


@pytest.mark.parametrize(
    ("case", "mode"), [("series", "eval"), ("series", "train"), ("parallel", "eval"), ("cross", "eval")]
)
def test_outputs_and_gradients(recorded: Recorded, case: str, mode: str) -> None:
    encoder = fused(recorded, case).train(mode == "train")
    arrays = recorded.arrays(f"fusion/fusion_{case}")
    encoding = encoder(batch_of(arrays), graph_of(arrays["edge_list"]))
    assert relative_error(encoding.residue, arrays[f"{mode}_node_feature"]) < 1e-5
    assert relative_error(encoding.protein, arrays[f"{mode}_graph_feature"]) < 1e-5

    weighted = (encoding.residue * torch.from_numpy(arrays["weight_node"])).sum()
    weighted += (encoding.protein * torch.from_numpy(arrays["weight_graph"])).sum()
    weighted.backward()
    theirs = recorded.tensors(f"fusion/fusion_{case}.grads")
    gradients = {
        name: gradient
        for full, gradient in theirs.items()
        if full.startswith(f"{mode}.") and (name := our_name(full.removeprefix(f"{mode}.")))
    }
    if case != "series":
        reorder_input(gradients, torch.cat([FROM_OURS, torch.tensor([len(FROM_OURS)])]))
    parameters = dict(encoder.named_parameters())
    assert gradients.keys() == parameters.keys()
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        ours = parameters[name].grad
        assert ours is not None, name
        assert float((ours - gradient).abs().max() / largest) < 1e-5, name


def test_structure_output_is_the_second_half(recorded: Recorded) -> None:
    """The variant of the paper's figure: the structure encoder's output alone."""
    encoder = fused(recorded, "series").eval()
    arrays = recorded.arrays("fusion/fusion_series")
    both = encoder(batch_of(arrays), graph_of(arrays["edge_list"]))
    encoder.fuser = SerialFuser(
        SerialFuser.Settings(output="structure"),
        sequence_dim=encoder.sequence.output_dim,
        structure_dim=encoder.structure.output_dim,
    )
    alone = encoder(batch_of(arrays), graph_of(arrays["edge_list"]))
    width = encoder.structure.output_dim
    assert encoder.fuser.output_dim == width
    assert torch.equal(alone.residue, both.residue[:, -width:])
    assert torch.equal(alone.protein, both.protein[:, -width:])


def test_reference_leaves_projections_and_attention_untrained(recorded: Recorded) -> None:
    """Quirk of the original's cross runs: one step moves both encoders and nothing of the fuser."""
    encoder = fused(recorded, "cross")
    encoder.fuser = CrossFuser(
        CrossFuser.Settings(cross_dim=32, reference=True),
        sequence_dim=encoder.sequence.output_dim,
        structure_dim=encoder.structure.output_dim,
    )
    before = {name: tensor.clone() for name, tensor in encoder.named_parameters()}
    arrays = recorded.arrays("fusion/fusion_cross")
    optimizer = torch.optim.Adam((p for p in encoder.parameters() if p.requires_grad), lr=1e-2)
    encoder(batch_of(arrays), graph_of(arrays["edge_list"])).protein.square().sum().backward()
    optimizer.step()
    moved = {name for name, tensor in encoder.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if not name.startswith("fuser.")}


@pytest.mark.parametrize("readout", ["sum", "mean", "attention"])
def test_joined_residues_can_be_pooled_together(recorded: Recorded, readout: str) -> None:
    """Serial and parallel fusion; the residues are the same as with two encoders' own proteins."""
    for case, kind in (("series", SerialFuser), ("parallel", ParallelFuser)):
        encoder = fused(recorded, case).eval()
        arrays = recorded.arrays(f"fusion/fusion_{case}")
        batch, graph = batch_of(arrays), graph_of(arrays["edge_list"])
        expected = encoder(batch, graph)
        widths = {"sequence_dim": encoder.sequence.output_dim, "structure_dim": encoder.structure.output_dim}
        encoder.fuser = kind(kind.Settings(readout=readout), **widths)
        pooled = encoder(batch, graph)
        assert torch.equal(pooled.residue, expected.residue)
        half = slice(encoder.sequence.output_dim, None) if readout == "sum" else slice(widths["sequence_dim"])
        same = bool(torch.isclose(pooled.protein[:, half], expected.protein[:, half], rtol=1e-4).all())
        # ESM-2 pools by mean, GearNet by sum.
        assert same is (readout != "attention")


def test_the_figure_s_variant_has_the_structure_encoder_s_readout() -> None:
    with pytest.raises(ValueError, match="readout must be encoders if output is structure"):
        SerialFuser.Settings(output="structure", readout="attention")
