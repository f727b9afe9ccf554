import tomllib

import pytest
import torch
from safetensors.torch import save_file

from esmgn_core.errors import RunError, WeightsError
from esmgn_core.host.presets import shipped_registry
from esmgn_core.model.length import LengthPolicy
from esmgn_core.settings import LengthTable
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component
from esmgn_core.weights import file_sha256
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1 import ESM1

TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}
SEQUENCES = ("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "ACDEFGHIKLMNPQRSTVWYX", "G", "MK#AYIA##RQ", "####")

pytestmark = pytest.mark.usefixtures("isolated")


def loaded(path, **changes) -> ESM1:
    return ESM1(ESM1.Settings(**{**TINY, **changes}, weights=str(path)))


def represented(model, fair_esm, *sequences):
    return torch.cat(fair_esm(model, *sequences))


@pytest.mark.parametrize("norm_before", [True, False])
@pytest.mark.parametrize("token_dropout", [True, False])
def test_equal_to_fair_esm_in_a_mixed_batch(esm1_file, fair_esm, make_batch, norm_before, token_dropout):
    """Mixed lengths, unknown and masked residues, a protein all masked; each variant read from its file."""
    model, path = esm1_file(norm_before=norm_before, token_dropout=token_dropout)
    with torch.no_grad():
        expected = represented(model, fair_esm, *SEQUENCES)
        found = loaded(path)(make_batch(*SEQUENCES)).residue
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def test_longest_sequence_equals_fair_esms(esm1_file, fair_esm, make_batch):
    """1,022 residues use the last position there is."""
    model, path = esm1_file(num_layers=1)
    sequence = ("ACDEFGHIKLMNPQRSTVWY" * 52)[:1022]
    with torch.no_grad():
        expected = represented(model, fair_esm, sequence)
        found = loaded(path, num_layers=1)(make_batch(sequence)).residue
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


def test_gradients_equal_fair_esms_in_float64(esm1_file, fair_esm, make_batch, monkeypatch):
    """The gradient of a scalar for every weight of the trunk, to 1e-12 of the largest.

    fair-esm rounds attention and the share of masks to float32 in any precision; here it must not.
    """
    sequences = [sequence for sequence in SEQUENCES if "#" not in sequence]
    monkeypatch.setattr("esm.multihead_attention.utils_softmax", lambda x, dim, **_: x.softmax(dim))
    model, path = esm1_file()
    encoder, model = loaded(path).double(), model.double()
    expected = represented(model, fair_esm, *sequences)
    found = encoder(make_batch(*sequences)).residue
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    largest = max(gradient.abs().max() for gradient in wanted.values() if gradient is not None)
    for name, parameter in encoder.model.named_parameters():
        assert (parameter.grad - wanted[name]).abs().max() < 1e-12 * largest, name


def test_contract_of_a_sequence_encoder_is_kept():
    """Among others: packed = alone, gradients reach every parameter."""
    check_component(Kind.SEQ, "esm1", **TINY, weights="random")


def test_order_of_residues_matters(make_batch):
    """Positions are read: a repeated residue has another representation at each place."""
    torch.manual_seed(0)
    residue = ESM1(ESM1.Settings(**TINY, weights="random"))(make_batch("WWWW")).residue
    assert (torch.cdist(residue, residue) + torch.eye(4) > 0.1).all()


def test_official_layout_loads_and_each_weight_is_the_files(esm1_file):
    model, path = esm1_file(num_layers=33, embed_dim=8, attention_heads=2)
    encoder = loaded(path, num_layers=33, embed_dim=8, attention_heads=2)
    state = model.state_dict()
    mask = model.alphabet.mask_idx
    for name, parameter in encoder.model.named_parameters():
        expected = state[name]
        if name == "embed_tokens.weight":  # fair-esm zeroes the mask's embedding when it loads
            expected, parameter = (tensor[:mask] for tensor in (expected, parameter))
        assert torch.equal(parameter, expected), name
    assert encoder.weights_sha256 == file_sha256(path)


def test_safetensors_with_the_same_names_load(esm1_file, tmp_path, make_batch):
    _, path = esm1_file()
    expected = loaded(path)
    bare = tmp_path / "trunk.safetensors"
    save_file({name: tensor.clone() for name, tensor in expected.model.state_dict().items()}, bare)
    batch = make_batch(*SEQUENCES)
    assert torch.equal(loaded(bare)(batch).residue, expected(batch).residue)


def test_a_longer_sequence_is_an_error_that_names_the_protein(make_batch):
    long, encoder = "ACDEFGHIKL" * 102 + "MNP", ESM1(ESM1.Settings(**TINY, weights="random"))
    batch = make_batch("ACD", long, "G")
    batch = batch.replace(names=("first", "titin", "last"))
    with pytest.raises(RunError) as caught:
        encoder(batch)
    assert str(caught.value).splitlines() == [
        "protein 'titin' has a sequence of 1023 residues: esm1 has a limit of 1022",
        "  encode it in windows: --set length.policy=window (or cut it: length.policy=truncate), or",
        "  choose an encoder without a limit, such as esm2_650m (see: esmgn list seq)",
    ]


@torch.no_grad()
def test_windows_reach_beyond_the_limit(make_batch):
    """As the error says: 1,100 residues, read as if alone where only one of two windows sees them."""
    encoder = ESM1(ESM1.Settings(**TINY, weights="random"))
    length = LengthPolicy(LengthTable(policy="window", max_residues=600, overlap=50), joins_chains=False)
    found = length.reading(encoder)(make_batch("A" * 600 + "C" * 500)).residue
    first, last = encoder(make_batch("A" * 600)).residue, encoder(make_batch("A" * 100 + "C" * 500)).residue
    assert torch.allclose(found[:500], first[:500], atol=1e-6)
    assert torch.allclose(found[600:], last[100:], atol=1e-6)


def test_the_limit_holds_for_what_is_read_as_one_sequence(make_batch):
    chains = make_batch("A" * 600 + "/" + "C" * 600)
    separate = ESM1(ESM1.Settings(**TINY, weights="random"))
    assert separate(chains).residue.shape == (1200, 16)
    concatenated = ESM1(ESM1.Settings(**TINY, weights="random", chains="concatenated"))
    with pytest.raises(RunError, match="has a sequence of 1200 residues"):
        concatenated(chains)


def test_proteins_without_residues_are_zeros(make_batch):
    encoder = ESM1(ESM1.Settings(**TINY, weights="random"))
    batch = make_batch("ACD").select(torch.zeros(3, dtype=torch.bool))
    assert not encoder(batch).protein.any()


def test_wrong_size_and_heads_are_refused(esm1_file):
    _, path = esm1_file()
    with pytest.raises(WeightsError, match="num_layers: 2 in the file, 3 here"):
        loaded(path, num_layers=3)
    with pytest.raises(WeightsError, match="attention_heads: 4 in the file, 8 here"):
        loaded(path, attention_heads=8)


def test_esm2_and_older_models_are_told_from_esm1(esm1_file, fair_esm_file):
    _, path = fair_esm_file(**TINY)
    with pytest.raises(WeightsError, match="no learned positions"):
        loaded(path)
    _, path = esm1_file()
    with pytest.raises(WeightsError, match=r"1 unexpected|3 unexpected"):
        ESM2(ESM2.Settings(**TINY, weights=str(path)))
    content = torch.load(path, weights_only=False)
    content["args"].arch = "protein_bert_base"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="architecture 'protein_bert_base': esm1 reads ESM-1b and ESM-1v"):
        loaded(path)


def test_missing_tensors_are_named(esm1_file):
    _, path = esm1_file()
    content = torch.load(path, weights_only=False)
    del content["model"]["encoder.sentence_encoder.layers.1.fc1.bias"]
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"1 missing: layers\.1\.fc1\.bias"):
        loaded(path)


MODELS = "https://dl.fbaipublicfiles.com/fair-esm/models"
PUBLISHED = {
    "esm1b_650m": "esm1b_t33_650M_UR50S.pt",
    **{f"esm1v_650m_{number}": f"esm1v_t33_650M_UR90S_{number}.pt" for number in range(1, 6)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_says_which_file_to_fetch(name):
    preset = tomllib.loads(shipped_registry().read_text())["seq"][name]
    settings = ESM1.Settings(**preset["settings"])
    assert (settings.num_layers, settings.embed_dim, settings.attention_heads) == (33, 1280, 20)
    with pytest.raises(WeightsError) as caught:
        ESM1(settings)
    assert str(caught.value).splitlines() == [
        "esm1 does not download weights, because their checksums are unknown",
        f"  download the published file: {MODELS}/{PUBLISHED[name]}",
        "  and set its path: --set seq.weights=PATH",
        "  or start from random weights: --set seq.weights=random",
    ]


def test_without_a_preset_presets_are_named():
    with pytest.raises(WeightsError, match="choose a published model such as esm1b_650m"):
        ESM1(ESM1.Settings())
