"""SiamDiff and DiffPreT with ``reference``: a masked residue is glycine to ESM-2 and zeros to GearNet.

No recorded values are at hand: encoders and losses are written out from the formulas of the study, with a
one-hot row of zeros for every masked residue.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from esmgn_core.alphabet import AMINO_ACIDS, NUM_RESIDUE_FEATURES
from esmgn_core.draws import SeededDraws
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.joint import SequenceOnce
from esmgn_pretext.siamdiff import SiamDiff

from .test_diffusion import TASKS, literal

GLYCINE = AMINO_ACIDS.index("G")


def encoder_of(fusion):
    tables = {
        "seq": {"name": "esm2_tiny"},
        "struct": {"name": "gearnet", "hidden_dim": 8, "num_layers": 2},
        "fuse": {"name": fusion, **({"cross_dim": 16, "attention_heads": 2} if fusion == "cross" else {})},
    }
    blueprint = resolve(discover(), configure(discover(), [tables]))
    return blueprint.encoder().eval(), blueprint.graph()


def literal_residues(encoder, view, masked):
    """Fused residues [N, D] of one view, one protein at a time where they are mixed."""
    rows = one_hot(view.batch.residue_type, NUM_RESIDUE_FEATURES).float()
    rows[masked] = 0.0
    shown = view.batch.replace(residue_type=view.batch.residue_type.clone(), hidden=None)
    shown.residue_type[masked] = GLYCINE
    sequence = encoder.sequence(shown).residue
    structure = encoder.structure(shown, view.graph, rows).residue
    fuser = encoder.fuser
    if not hasattr(fuser, "attn"):
        return torch.cat([sequence, structure], dim=1)
    first, second, attention, fused = (
        fuser.seq_linear(sequence),
        fuser.struct_linear(structure),
        fuser.attn,
        [],
    )
    for start, end in view.batch.ptr.unfold(0, 2, 1).tolist():
        tokens = torch.cat([first[start:end], second[start:end]])
        mixed, _ = attention.attn(attention.query(tokens), attention.key(tokens), attention.value(tokens))
        fused.append(torch.cat([mixed[: end - start], mixed[end - start :]], dim=1))
    return torch.cat(fused)


@pytest.mark.parametrize("fusion", ["parallel", "cross"])
@pytest.mark.parametrize("task_class", TASKS)
def test_masked_residues_have_a_one_hot_of_zeros_as_in_the_original(task_class, fusion, batch):
    encoder, build_graph = encoder_of(fusion)
    settings = task_class.Settings(crop_length=15, reference=True)
    task = task_class(settings, encoder_dim=encoder.output_dim)
    with torch.no_grad():
        views = task.views(batch, build_graph, SeededDraws(3, 0, range(5)))
        reader = SequenceOnce(encoder.sequence)
        encodings = [encoder(view.batch, view.graph, reader) for view in views]
        found = task.loss(views, encodings).loss
        masked = views[0].targets["residue"]
        expected = [literal_residues(encoder, view, masked) for view in views]
        for encoding, rows in zip(encodings, expected, strict=True):
            assert float((encoding.residue - rows).abs().max() / rows.abs().max()) < 1e-5
        shapes, sigma = reference_coordinates(views, batch, settings)
        read_from = expected[::-1] if task_class is SiamDiff else expected
        total = literal(task.double(), views, [rows.double() for rows in read_from], shapes, sigma)
    assert float(found) == pytest.approx(float(total), rel=1e-5)


def reference_coordinates(views, batch, settings):
    """As :func:`true_coordinates`, for windows as the original draws them."""
    draws = SeededDraws(3, 0, range(5))
    cropped = settings.crop(batch, draws)
    shapes = [cropped.ca]
    if len(views) == 2:
        shapes.append(cropped.ca + 0.3 * draws.normal(12 * cropped.lengths).view(-1, 4, 3)[:, 1].float())
    level = (draws.uniform(torch.ones(5, dtype=torch.int64)) * 100).long()
    return shapes, settings.sigma()[level][cropped.protein_index].double()


@pytest.mark.parametrize("task_class", TASKS)
def test_without_reference_the_one_hot_is_that_of_glycine(task_class, batch, build_graph, draws):
    for reference in (False, True):
        settings = task_class.Settings(crop_length=0, reference=reference)
        view = task_class(settings, encoder_dim=6).views(batch, build_graph, draws)[0]
        rows = view.batch.residue_one_hot[view.targets["residue"]]
        assert (view.batch.residue_type[view.targets["residue"]] == GLYCINE).all()
        assert torch.equal(rows[:, GLYCINE], torch.full((len(rows),), 0.0 if reference else 1.0))
        assert torch.equal(rows.sum(dim=1), rows[:, GLYCINE])


def test_hidden_residues_stay_hidden_in_a_part_of_a_batch(batch):
    hidden = torch.arange(batch.num_residues) % 3 == 0
    keep = torch.arange(batch.num_residues) % 2 == 0
    part = batch.replace(hidden=hidden).select(keep)
    assert torch.equal(part.residue_one_hot, batch.replace(hidden=hidden).residue_one_hot[keep])
