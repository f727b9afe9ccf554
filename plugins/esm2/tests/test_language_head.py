"""The language-model head, and attention weights."""

import pytest
import torch
from safetensors.torch import save_file

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import SettingsError, WeightsError
from esmgn_core.protocols import LanguageModel
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1 import ESM1

TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}
SEQUENCES = ("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "ACDEFGHIKLMNPQRSTVWYX", "G", "MK#AYIA##RQ", "####")

pytestmark = pytest.mark.usefixtures("isolated")


def loaded(path, **changes) -> ESM2:
    return ESM2(ESM2.Settings(**TINY, weights=str(path), lm_head=True, **changes)).eval()


def amino_acids(alphabet) -> list[int]:
    return [alphabet.get_idx(letter) for letter in AMINO_ACIDS]


@torch.no_grad()
def test_logits_are_fair_esms_in_the_order_of_our_amino_acids(fair_esm_file, fair_esm_output, make_batch):
    model, path = fair_esm_file(**TINY)
    expected = fair_esm_output(model, "logits", *SEQUENCES)
    expected = torch.cat(expected)[:, amino_acids(model.alphabet)]
    encoder = loaded(path)
    assert isinstance(encoder, LanguageModel)
    found = encoder.residue_logits(make_batch(*SEQUENCES))
    assert found.shape == (sum(map(len, SEQUENCES)), 20)
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@torch.no_grad()
def test_logits_of_esm1_are_fair_esms(esm1_file, fair_esm_output, make_batch):
    model, path = esm1_file()
    expected = torch.cat(fair_esm_output(model, "logits", *SEQUENCES))[:, amino_acids(model.alphabet)]
    encoder = ESM1(ESM1.Settings(**TINY, weights=str(path), lm_head=True))
    found = encoder.residue_logits(make_batch(*SEQUENCES))
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@torch.no_grad()
def test_logits_are_of_the_last_layer_whatever_layers_are_taken(fair_esm_file, make_batch):
    _, path = fair_esm_file(**TINY)
    batch = make_batch("ACDEF")
    assert torch.equal(loaded(path, layers=(1,)).residue_logits(batch), loaded(path).residue_logits(batch))


def test_a_head_changes_no_representation_and_is_not_trained(fair_esm_file, make_batch):
    _, path = fair_esm_file(**TINY)
    plain = ESM2(ESM2.Settings(**TINY, weights=str(path)))
    batch = make_batch(*SEQUENCES)
    assert not [name for name, _ in plain.named_parameters() if "lm_head" in name]
    encoding = loaded(path)(batch)
    assert torch.equal(encoding.residue, plain(batch).residue)
    assert not any(p.requires_grad for n, p in loaded(path).named_parameters() if "lm_head" in n)


def test_random_weights_have_a_random_head(make_batch):
    encoder = ESM2(ESM2.Settings(**TINY, weights="random", lm_head=True))
    assert encoder.residue_logits(make_batch("AC", "D")).std() > 0


def test_logits_without_a_head_say_which_setting_loads_it(make_batch):
    encoder = ESM2(ESM2.Settings(**TINY, weights="random"))
    with pytest.raises(SettingsError) as caught:
        encoder.residue_logits(make_batch("AC"))
    assert str(caught.value) == "this encoder has no language-model head\n  --set seq.lm_head=true"


def test_a_file_without_a_head_is_refused_only_where_the_head_is_asked_for(fair_esm_file, tmp_path):
    model, _ = fair_esm_file(**TINY)
    state = {name: tensor for name, tensor in model.state_dict().items() if "lm_head" not in name}
    path = tmp_path / "trunk.safetensors"
    save_file(state, path)
    ESM2(ESM2.Settings(**TINY, weights=str(path)))
    with pytest.raises(WeightsError) as caught:
        loaded(path)
    assert str(caught.value).splitlines() == [
        f"weights in {path} have no language-model head (seq.lm_head = true)",
        "  use a file of fair-esm, or leave the head out: --set seq.lm_head=false",
    ]


def test_a_decoder_that_is_not_the_embedding_is_refused(fair_esm_file, tmp_path):
    model, _ = fair_esm_file(**TINY)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["lm_head.weight"] += 1
    path = tmp_path / "untied.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"lm_head\.weight is not the embedding"):
        loaded(path)


@torch.no_grad()
def test_attention_maps_are_fair_esms(fair_esm_file, fair_esm_output, make_batch):
    """The weights between residues, without the columns of <cls> and <eos>, in a mixed batch."""
    model, path = fair_esm_file(**TINY)
    expected = fair_esm_output(model, "attentions", *SEQUENCES)
    maps = loaded(path).attention_maps(make_batch(*SEQUENCES))
    for sequence, one, other in zip(SEQUENCES, maps, expected, strict=True):
        assert one.shape == (2, 4, len(sequence), len(sequence))
        assert (one - other).abs().max() < 1e-6
        assert one.max() > 0


@torch.no_grad()
def test_attention_maps_of_esm1_are_fair_esms(esm1_file, fair_esm_output, make_batch):
    model, path = esm1_file()
    expected = fair_esm_output(model, "attentions", *SEQUENCES)
    maps = ESM1(ESM1.Settings(**TINY, weights=str(path))).attention_maps(make_batch(*SEQUENCES))
    assert all((one - other).abs().max() < 1e-6 for one, other in zip(maps, expected, strict=True))


def test_chains_read_apart_do_not_attend_to_each_other(make_batch):
    """The blocks of a complex are the maps of its chains, whatever else the batch holds."""
    encoder = ESM2(ESM2.Settings(**TINY, weights="random"))
    _, complex_ = encoder.attention_maps(make_batch("MKTAYIAKQ", "ACDEF/GHI"))
    first, second = encoder.attention_maps(make_batch("ACDEF", "GHI"))
    assert torch.allclose(complex_[..., :5, :5], first, atol=1e-6)
    assert torch.allclose(complex_[..., 5:, 5:], second, atol=1e-6)
    assert not complex_[..., :5, 5:].any()
    assert not complex_[..., 5:, :5].any()
