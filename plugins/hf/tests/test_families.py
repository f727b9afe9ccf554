"""Each family of models equals transformers used by hand, alone and in a padded batch."""

import pytest
import torch

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.published.hugging_face import export_hugging_face
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component
from esmgn_hf.encoder import HuggingFaceEncoder
from esmgn_hf.tokens import MAX_PADDING, padded_rows, similar_lengths

FAMILIES = ("esm", "esmc", "bert", "prott5", "ankh", "roformer")
SEQUENCES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEV",
    "ACDEFGHIKLMNPQRSTVWYX",
    "G",
    "MK#AYIA##RQ",
    "ACDEFGHIKLM",
)


def encoder(family, name, **settings) -> HuggingFaceEncoder:
    model = str(family(name).folder)
    return HuggingFaceEncoder(HuggingFaceEncoder.Settings(model=model, **settings)).eval()


def residues(hidden, num_tokens, sequence):
    """Rows of residues: T5 has a token after them, the others one on each side."""
    first = num_tokens - len(sequence) - 1
    return hidden[0, first : first + len(sequence)]


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_mixed_batch_equals_transformers_one_by_one(name, family, make_batch):
    expected = []
    for sequence in SEQUENCES:
        output, num_tokens = family(name).by_hand(sequence)
        layers = [output.hidden_states[layer] for layer in (0, 2, 3)]
        expected.append(torch.cat([residues(hidden, num_tokens, sequence) for hidden in layers], dim=1))
    wanted = torch.cat(expected)
    model = encoder(family, name, layers=(0, 2, -1))
    found = model(make_batch(*SEQUENCES)).residue
    assert found.shape == wanted.shape == (sum(map(len, SEQUENCES)), model.output_dim)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    last = encoder(family, name)(make_batch(*SEQUENCES)).residue
    assert (last - wanted[:, -16:]).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_logits_are_those_of_transformers_in_the_order_of_our_amino_acids(name, family, make_batch):
    if not family(name).has_head:
        with pytest.raises(SettingsError, match=r"no language-model head: models of type t5 are encoders"):
            encoder(family, name, lm_head=True)
        return
    expected = []
    for sequence in SEQUENCES:
        output, num_tokens = family(name).by_hand(sequence)
        expected.append(residues(output.logits, num_tokens, sequence))
    model = encoder(family, name, lm_head=True)
    wanted = torch.cat(expected)[:, list(model.tokens.residue[: len(AMINO_ACIDS)])]
    found = model.residue_logits(make_batch(*SEQUENCES))
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    with pytest.raises(SettingsError, match=r"no language-model head\n  --set seq\.lm_head=true"):
        encoder(family, name).residue_logits(make_batch("AC"))


@pytest.mark.parametrize("name", ["esm", "ankh"])
def test_the_encoder_keeps_the_contract_of_its_kind(name, family):
    """Padded encoders meet the tolerance of 1e-5 for packed ones. ESM C and the others do so too."""
    check_component(Kind.SEQ, "hf", model=str(family(name).folder), weights="random")


@pytest.mark.parametrize("name", FAMILIES)
def test_only_what_the_outputs_depend_on_is_trained(name, family, make_batch):
    """Several processes would wait for other gradients. Blocks are recomputed with the same gradients."""
    gradients = []
    for recompute in (False, True):
        head = {"lm_head": True} if family(name).has_head else {}
        model = encoder(family, name, layers=(1,), gradient_checkpointing=recompute, **head).train()
        assert model.recompute is recompute
        encoding = model(make_batch(*SEQUENCES))
        (encoding.residue * torch.arange(16.0).cos()).sum().backward()
        trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
        assert all(p.grad is not None for p in trained.values()), [
            key for key, p in trained.items() if p.grad is None
        ]
        gradients.append([p.grad for p in trained.values()])
        frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
        assert len(frozen) > len(trained)
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, again)


@torch.no_grad()
def test_chains_are_read_apart_or_as_one_sequence(family, make_batch):
    apart, joined = encoder(family, "esmc"), encoder(family, "esmc", chains="concatenated")
    pair = make_batch("ACDEF/GHIK")
    assert torch.allclose(apart(pair).residue, apart(make_batch("ACDEF", "GHIK")).residue, atol=1e-5)
    assert torch.allclose(joined(pair).residue, apart(make_batch("ACDEFGHIK")).residue, atol=1e-5)
    assert joined.joins_chains


def test_equal_lengths_have_no_padding_and_others_at_most_a_tenth(family, make_batch):
    lengths = [100, 50, 100, 96, 97, 30, 31, 32, 50, 0, 33, 34, 35, 36, 400]
    groups = similar_lengths(lengths)
    assert sorted(index for group in groups for index in group) == [*range(9), *range(10, 15)]
    for group in groups:
        sizes = [lengths[index] for index in group]
        assert 1 - sum(sizes) / (max(sizes) * len(sizes)) <= MAX_PADDING
    assert [0, 2] in groups
    assert [1, 8] in groups
    model = encoder(family, "esmc")
    rows = list(
        padded_rows(
            make_batch("ACD", "EFG", "ACDE" * 3), model.tokens, model.residue_token, join_chains=False
        )
    )
    assert [row.token.shape for row in rows] == [(2, 5), (1, 14)]
    assert all(row.mask is None for row in rows)


@pytest.mark.parametrize("name", ["esmc", "prott5"])
@pytest.mark.parametrize("changes", [{"seq_lr_scale": 0.0}, {"seq_lr_scale": 1.0}, {"lora_rank": 2}])
def test_serial_fusion_trains_and_the_run_folder_embeds_alone(name, changes, family, tmp_path, make_batch):
    from esmgn_core.engine.session import start_run
    from esmgn_core.inference.model import ModelName, load_model

    registry = discover()
    tables = {
        "seq": {"name": "hf", "model": str(family(name).folder)},
        "struct": {"name": "gearnet", "hidden_dim": 16, "num_layers": 1},
        "fuse": {"name": "serial"},
        "pretext": {"name": "residue_type"},
        "data": {"name": "sample", "num_proteins": 8},
        "optim": {"lr": 0.01, **changes},
        "train": {"max_steps": 2, "proteins_per_batch": 4, "trackers": []},
    }
    run = start_run(registry, configure(registry, [tables]), out=tmp_path / "run").run.path
    model = load_model(ModelName(folder=str(run)), device="cpu")
    start = encoder(family, name).state_dict()
    moved = [key for key, value in model.sequence.state_dict().items() if not torch.equal(value, start[key])]
    assert bool(moved) == (changes.get("seq_lr_scale") != 0.0)
    assert model.random_parts == ()
    exported = tmp_path / "exported"
    assert export_hugging_face(registry, run, exported) == [
        "language-model head: none, the encoder was built without it"
    ]
    again = HuggingFaceEncoder(HuggingFaceEncoder.Settings(model=str(exported))).eval()
    with torch.no_grad():
        batch = make_batch(*SEQUENCES)
        assert torch.equal(again(batch).residue, model.sequence.eval()(batch).residue)
