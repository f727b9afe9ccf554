import os

import pytest
import torch
from safetensors.torch import save_file

from esmgn_core.errors import WeightsError
from esmgn_core.weights import load_file
from esmgn_esm2.checkpoint import Size, fill, read_weights
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.model import Transformer

SIZE = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}

pytestmark = pytest.mark.usefixtures("isolated")


def loaded(path, **changes) -> ESM2:
    return ESM2(ESM2.Settings(**{**SIZE, **changes}, weights=str(path)))


def rewritten(path, change):
    """The file after ``change`` was applied to its content."""
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("num_layers", "num_keys"), [(6, 113), (12, 215), (30, 521), (33, 572), (36, 623), (48, 827)]
)
def test_official_layout_loads(fair_esm_file, num_layers, num_keys):
    """A file with every name of the published one of that depth loads; each weight is the file's."""
    model, path = fair_esm_file(num_layers=num_layers, embed_dim=8, attention_heads=2)
    assert len(model.state_dict()) == num_keys
    encoder = loaded(path, num_layers=num_layers, embed_dim=8, attention_heads=2)
    state = model.state_dict()
    for name, parameter in encoder.model.named_parameters():
        assert torch.equal(parameter, state[name]), name


def test_representations_equal_those_of_the_model_that_wrote_the_file(fair_esm_file, fair_esm, make_batch):
    model, path = fair_esm_file(**SIZE)
    sequences = ("MKTAYIAKQR", "ACD#F", "GX")
    expected = torch.cat(fair_esm(model, *sequences))
    found = loaded(path)(make_batch(*sequences)).residue
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize(
    "prefix", ["", "encoder.sentence_encoder.", "module.", "_orig_mod.encoder.sentence_encoder."]
)
def test_safetensors_with_the_same_names_load(fair_esm_file, tmp_path, prefix):
    model, _ = fair_esm_file(**SIZE)
    path = tmp_path / "weights.safetensors"
    save_file({prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}, path)
    encoder = loaded(path)
    assert torch.equal(encoder.model.embed_tokens.weight, model.embed_tokens.weight)


def test_own_state_dict_loads_again(tmp_path):
    encoder = ESM2(ESM2.Settings(**SIZE, weights="random"))
    path = tmp_path / "trunk.safetensors"
    save_file(encoder.model.state_dict(), path)
    again = loaded(path)
    for name, parameter in again.model.named_parameters():
        assert torch.equal(parameter, encoder.model.get_parameter(name)), name


def test_half_precision_becomes_float32(fair_esm_file):
    model, path = fair_esm_file(**SIZE, dtype=torch.float16)
    encoder = loaded(path)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.model.embed_tokens.weight, model.embed_tokens.weight.half().float())


def test_loading_draws_no_random_numbers_and_makes_no_copy(fair_esm_file, monkeypatch):
    """Weights are not initialised before they are loaded: float32 parameters are the file's memory."""
    _, path = fair_esm_file(**SIZE)
    content = load_file(path)
    monkeypatch.setattr("esmgn_esm2.checkpoint.load_file", lambda _: content)
    before = torch.random.get_rng_state()
    encoder = loaded(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, parameter in encoder.model.named_parameters():
        stored = content["model"]["encoder.sentence_encoder." + name]
        assert parameter.data_ptr() == stored.data_ptr(), name


def test_training_leaves_the_file_as_it_is(fair_esm_file):
    """Parameters are mapped from the file, but privately: writing to them does not reach it."""
    _, path = fair_esm_file(**SIZE)
    before = path.read_bytes()
    encoder = loaded(path)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before


def test_wrong_preset_is_refused_with_both_sizes(fair_esm_file):
    _, path = fair_esm_file(**SIZE)
    with pytest.raises(WeightsError) as caught:
        loaded(path, num_layers=3, embed_dim=32)
    assert str(caught.value).splitlines() == [
        f"weights in {path} are of a model of another size",
        "  num_layers: 2 in the file, 3 here",
        "  embed_dim: 16 in the file, 32 here",
        "  choose the preset of that size (esmgn list seq), or",
        "  --set seq.num_layers=2 --set seq.embed_dim=16",
    ]


@pytest.mark.parametrize("heads", [2, 8])
def test_wrong_heads_are_refused_though_every_shape_fits(fair_esm_file, tmp_path, heads):
    """The number of heads shows in no shape of a weight: read from the arguments or the frequencies."""
    model, path = fair_esm_file(**SIZE)
    with pytest.raises(WeightsError, match=f"attention_heads: 4 in the file, {heads} here"):
        loaded(path, attention_heads=heads)
    bare = tmp_path / "bare.safetensors"
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, bare)
    with pytest.raises(WeightsError, match=f"attention_heads: 4 in the file, {heads} here"):
        loaded(bare, attention_heads=heads)


def test_missing_unexpected_and_misshapen_tensors_are_named(fair_esm_file):
    _, path = fair_esm_file(**SIZE)
    trunk = "encoder.sentence_encoder."

    def damage(content):
        del content["model"][trunk + "layers.1.fc1.bias"]
        content["model"][trunk + "layers.0.adapter.weight"] = torch.zeros(2)
        content["model"][trunk + "layers.0.fc2.bias"] = torch.zeros(3)
        content["model"][trunk + "layers.1.fc2.bias"] = torch.zeros(16, dtype=torch.int8)

    with pytest.raises(WeightsError) as caught:
        loaded(rewritten(path, damage))
    misshapen = (
        "layers.0.fc2.bias ([3] in the file, [16] here), "
        "layers.1.fc2.bias (not weights, but torch.int8 in the file, [16] here)"
    )
    assert str(caught.value).splitlines() == [
        f"weights in {path} do not fit ESM-2",
        "  1 missing: layers.1.fc1.bias",
        "  1 unexpected: layers.0.adapter.weight",
        f"  2 of another shape: {misshapen}",
        "  expected: a file of fair-esm, esm2_t*.pt, or a .safetensors with the same names",
    ]


def test_weights_of_another_kind_are_refused_without_flooding_the_screen(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({f"esm.encoder.layer.{i}.weight": torch.zeros(1) for i in range(40)}, path)
    with pytest.raises(WeightsError, match=r"40 unexpected: .* and 34 more"):
        loaded(path)


def test_model_without_token_dropout_is_refused(fair_esm_file):
    _, path = fair_esm_file(**SIZE)
    with pytest.raises(WeightsError, match="without token dropout"):
        loaded(rewritten(path, lambda content: setattr(content["cfg"]["model"], "token_dropout", False)))


def test_other_rotary_frequencies_are_refused(fair_esm_file):
    _, path = fair_esm_file(**SIZE)
    name = "encoder.sentence_encoder.layers.1.self_attn.rot_emb.inv_freq"
    with pytest.raises(WeightsError, match=r"other rotary frequencies: layers\.1"):
        loaded(rewritten(path, lambda content: content["model"][name].mul_(2)))


class Hostile:
    def __reduce__(self):
        return os.system, ("touch $ESMGN_CACHE-was-here",)


def test_hostile_pickle_does_not_run(fair_esm_file, isolated):
    """A file that would call a program is refused, named with what it asks for, and has not run."""
    _, path = fair_esm_file(**SIZE)
    rewritten(path, lambda content: content["model"].update(extra=Hostile()))
    with pytest.raises(WeightsError, match=r"esm2_made.pt: refused, because it would call \w+\.system"):
        loaded(path)
    assert not isolated.with_name(isolated.name + "-was-here").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_file_is_refused(fair_esm_file, kept):
    _, path = fair_esm_file(**SIZE)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        WeightsError, match=r"cannot read weights from .*esm2_made\.pt: the file is cut short"
    ):
        loaded(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"weights file not found: .*nothing\.pt \(seq\.weights\)"):
        loaded(tmp_path / "nothing.pt")


def test_any_transformer_can_be_filled(fair_esm_file):
    """``fill`` also serves a model that already has memory."""
    model, path = fair_esm_file(**SIZE)
    transformer = Transformer(**SIZE)
    fill(transformer, read_weights(path), Size(**SIZE))
    assert torch.equal(transformer.embed_tokens.weight, model.embed_tokens.weight)
