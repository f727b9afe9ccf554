import pytest
import torch
from torch import nn

from esmgn_esm2.model import Transformer, rotary_angles, rotate
from esmgn_esm2.tokens import pack_tokens, token_table

SEQUENCES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQ",
    "ACDEFGHIKLMNPQRSTVWYX",
    "G",
    "MK#AYIA##RQISFVKSHFSRQLE",
    "####",
    "ACDEFGHIKLMNPQRSTVWYA",
)


def fair_esm_model(**size):
    from esm.model.esm2 import ESM2

    torch.manual_seed(0)
    model = ESM2(**size).eval()
    for parameter in model.parameters():  # biases and norms of fresh models hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def same_weights(model, **size) -> Transformer:
    transformer = Transformer(**size)
    state = model.state_dict()
    transformer.load_state_dict({name: state[name] for name in transformer.state_dict()})
    return transformer


def represented(transformer, batch):
    tokens = pack_tokens(batch, token_table("X"), "separate")
    last = len(transformer.layers)
    return transformer(tokens, [last])[last][tokens.residue_row]


@pytest.mark.parametrize(
    "size",
    [
        {"num_layers": 3, "embed_dim": 32, "attention_heads": 4},
        {"num_layers": 2, "embed_dim": 60, "attention_heads": 10},
        {"num_layers": 1, "embed_dim": 8, "attention_heads": 4},
    ],
)
def test_equal_to_fair_esm_in_a_mixed_batch(make_batch, fair_esm, size):
    """Mixed lengths, unknown and masked residues, a protein all masked: the same numbers as fair-esm."""
    model = fair_esm_model(**size)
    with torch.no_grad():
        expected = torch.cat(fair_esm(model, *SEQUENCES))
        found = represented(same_weights(model, **size), make_batch(*SEQUENCES))
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def test_gradients_equal_fair_esms_in_float64(make_batch, fair_esm, monkeypatch):
    """The gradient of a scalar for every weight of the trunk, to 1e-12 of the largest.

    fair-esm rounds attention to float32 in any precision; here it must not.
    """
    monkeypatch.setattr("esm.multihead_attention.utils_softmax", lambda x, dim, **_: x.softmax(dim))
    size = {"num_layers": 2, "embed_dim": 32, "attention_heads": 4}
    model = fair_esm_model(**size).double()
    transformer = same_weights(model, **size).double()
    expected = torch.cat(fair_esm(model, *SEQUENCES))
    found = represented(transformer, make_batch(*SEQUENCES))
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    largest = max(gradient.abs().max() for gradient in wanted.values() if gradient is not None)
    for name, parameter in transformer.named_parameters():
        assert (parameter.grad - wanted[name]).abs().max() < 1e-12 * largest, name


def test_scale_is_088_without_masks_and_grows_with_their_share(make_batch):
    """0.88 times the embedding; 1.056 times when 1 token of 6 is a mask, whose own embedding is zero."""
    transformer = Transformer(num_layers=1, embed_dim=8, attention_heads=2)
    batch = make_batch("ACDE", "AC#E")
    tokens = pack_tokens(batch, token_table("X"), "separate")
    embedded = transformer.embed(tokens)
    plain = transformer.embed_tokens(tokens.token)
    assert torch.allclose(embedded[:6], 0.88 * plain[:6])
    assert torch.allclose(embedded[[6, 7, 8, 10, 11]], 1.056 * plain[[6, 7, 8, 10, 11]])
    assert not embedded[9].any()


@torch.no_grad()
def test_large_inner_activations_are_made_in_parts(make_batch, monkeypatch):
    """Without gradients, 256 rows at a time; layers that were taken before keep their values."""
    size = {"num_layers": 2, "embed_dim": 32, "attention_heads": 4}
    transformer = same_weights(fair_esm_model(**size), **size)
    tokens = pack_tokens(make_batch("ACDEFGHIKLMNPQRSTVWY" * 40, *SEQUENCES), token_table("X"), "separate")
    expected = transformer(tokens, [0, 1, 2])
    parts = []
    monkeypatch.setattr("esmgn_esm2.model._FEED_FORWARD_BYTES", 1000)
    transformer.layers[0].fc1.register_forward_hook(lambda *call: parts.append(len(call[1][0])))
    found = transformer(tokens, [0, 1, 2])
    assert parts == [256, 256, 256, len(tokens.token) - 768]
    for number, hidden in expected.items():
        assert (found[number] - hidden).abs().max() < 1e-6 * hidden.abs().max()


class Doubled(nn.Linear):
    """Something around a projection, as adapters are."""

    def forward(self, features):
        return 2 * super().forward(features)


def test_a_wrapped_projection_is_called(make_batch):
    """The fused product must not bypass a module that replaces a projection."""
    size = {"num_layers": 1, "embed_dim": 32, "attention_heads": 4}
    model = fair_esm_model(**size)
    wrapped, doubled = same_weights(model, **size), same_weights(model, **size)
    attention = wrapped.layers[0].self_attn
    attention.k_proj.__class__ = Doubled
    with torch.no_grad():
        for parameter in doubled.layers[0].self_attn.k_proj.parameters():
            parameter *= 2
    batch = make_batch(*SEQUENCES)
    found, expected = represented(wrapped, batch), represented(doubled, batch)
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    assert not torch.allclose(found, represented(same_weights(model, **size), batch), atol=1e-3)


def test_rotary_depends_on_distance_only():
    """The product of a query and a key depends only on the distance of the pair, not on its position."""
    query, key = torch.randn(2, 1, 1, 16, dtype=torch.float64)
    products = []
    for start in (0, 7, 2000):
        rotary = rotary_angles(torch.tensor([start, start + 5]), 16, torch.float64)
        turned = rotate(torch.cat([query, key]), rotary)
        products.append((turned[0] * turned[1]).sum())
    assert torch.allclose(torch.stack(products), products[0])


def test_rotary_angles_stay_float32_in_half_precision():
    rotary = rotary_angles(torch.tensor([1001]), 16, torch.bfloat16)
    assert rotary.dtype == torch.float32
    assert rotary[0, 0, 0].tolist() == [torch.tensor(1001.0).cos(), torch.tensor(1001.0).sin()]


@pytest.mark.parametrize(
    ("num_layers", "embed_dim", "attention_heads", "num_parameters"),
    [
        (6, 320, 20, 7_512_474),
        (12, 480, 20, 33_501_394),
        (30, 640, 20, 148_140_154),
        (33, 1280, 20, 651_043_254),
        (36, 2560, 40, 2_839_005_634),
        (48, 5120, 40, 15_129_100_194),
    ],
)
def test_parameters_are_the_published_ones_without_the_heads(
    num_layers, embed_dim, attention_heads, num_parameters
):
    """The published count less language-model head (its decoder is the embedding) and contact head."""
    with torch.device("meta"):
        trunk = Transformer(num_layers=num_layers, embed_dim=embed_dim, attention_heads=attention_heads)
        language_head = [nn.Linear(embed_dim, embed_dim), nn.LayerNorm(embed_dim)]
    language_parameters = sum(p.numel() for part in language_head for p in part.parameters()) + 33
    contact_parameters = num_layers * attention_heads + 1
    count = sum(parameter.numel() for parameter in trunk.parameters())
    assert count + language_parameters + contact_parameters == num_parameters


def test_the_gradient_passes_through_frozen_layers_made_in_parts(make_batch, monkeypatch):
    """Frozen models have gradients of their inputs: large activations must not change in place."""
    size = {"num_layers": 1, "embed_dim": 32, "attention_heads": 4}
    transformer = same_weights(fair_esm_model(**size), **size).requires_grad_(requires_grad=False)
    tokens = pack_tokens(make_batch("ACDEFGHIKLMNPQRSTVWY" * 40), token_table("X"), "separate")
    gradients = []
    for limit in (1 << 30, 1000):
        monkeypatch.setattr("esmgn_esm2.model._FEED_FORWARD_BYTES", limit)
        hidden = transformer.embed(tokens).requires_grad_()
        rotary = transformer.rotary(tokens, hidden.dtype)
        transformer.layers[0](hidden, rotary, tokens.pack).sin().sum().backward()
        gradients.append(hidden.grad)
    assert torch.equal(*gradients)
