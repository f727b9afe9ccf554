import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from esmgn_core.alphabet import AMINO_ACIDS, UNKNOWN
from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import WeightsError
from esmgn_core.testing import example_batch
from esmgn_core.weights import file_sha256
from esmgn_esm2.encoder import ESM2

TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}
TORCHDRUG_ORDER = "GASPVTCILNDQKEMHFRYW"

pytestmark = pytest.mark.usefixtures("isolated")


def random_encoder(**changes) -> ESM2:
    torch.manual_seed(0)
    return ESM2(ESM2.Settings(**{**TINY, "weights": "random", **changes}))


@pytest.fixture
def recorded(fixtures):
    """Batch and recorded values of the original's tiny ESM-2; residue 7 of helix20 and others unknown."""
    values = np.load(fixtures / "fusion_series.npz")
    codes = [AMINO_ACIDS.index(letter) for letter in TORCHDRUG_ORDER]
    residue_type = torch.tensor(codes)[torch.from_numpy(values["residue_type"]).long()]
    residue_type[torch.from_numpy(values["residue_feature_index"] == 20)] = UNKNOWN
    lengths = torch.from_numpy(values["num_residues"]).long()
    num_residues = len(residue_type)
    batch = ProteinBatch(
        residue_type=residue_type,
        backbone=torch.zeros(num_residues, 4, 3),
        atom_mask=torch.ones(num_residues, 4, dtype=torch.bool),
        residue_index=torch.arange(num_residues),
        chain_index=torch.from_numpy(values["chain_id"]).long(),
        ptr=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        names=tuple(values["protein_ids"].tolist()),
    )
    return batch, values


def test_original_features_are_reproduced(recorded, fixtures):
    """Residue and protein features equal those recorded from TorchDrug's ESM-2 wrapper."""
    batch, values = recorded
    model = json.loads((fixtures / "fusion_series.json").read_text())["sequence_model"]
    settings = {name: model[name] for name in TINY} | {"weights": str(fixtures / model["checkpoint"])}
    encoder = ESM2(ESM2.Settings(**settings, unknown_residue="G", chains="concatenated"))
    encoding = encoder(batch)
    residue = torch.from_numpy(values["sequence_node_feature"])
    protein = torch.from_numpy(values["sequence_graph_feature"])
    assert (encoding.residue - residue).abs().max() < 1e-6 * residue.abs().max()
    assert (encoding.protein - protein).abs().max() < 1e-6 * protein.abs().max()


def test_unknown_residues_are_x_unless_read_as_glycine(recorded, fixtures):
    """The recorded values read unknown residues as glycine: reading them as X differs there."""
    batch, values = recorded
    encoder = ESM2(ESM2.Settings(**TINY, weights=str(fixtures / "esm2_t2_tiny.pt")))
    assert (batch.residue_type == UNKNOWN).any()
    assert not np.allclose(encoder(batch).residue.detach(), values["sequence_node_feature"], atol=1e-3)


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_protein_representation_pools_its_residues(make_batch, readout):
    encoding = random_encoder(readout=readout)(make_batch("ACDE", "FGH"))
    pooled = [getattr(encoding.residue[rows], readout)(0) for rows in (slice(0, 4), slice(4, 7))]
    assert torch.allclose(encoding.protein, torch.stack(pooled), atol=1e-6)


def test_chains_are_read_apart_or_as_one_sequence(make_batch):
    """``separate``: a chain reads as if alone; ``concatenated``: as if there were no chain break."""
    separate, concatenated = random_encoder(), random_encoder(chains="concatenated")
    complex_ = make_batch("ACDEF/GHIK")
    as_one = concatenated(make_batch("ACDEFGHIK")).residue
    assert torch.allclose(
        separate(complex_).residue, separate(make_batch("ACDEF", "GHIK")).residue, atol=1e-6
    )
    assert torch.allclose(concatenated(complex_).residue, as_one, atol=1e-6)
    assert not torch.allclose(separate(complex_).residue, as_one, atol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_alone_or_in_a_batch_is_the_same(make_batch, dtype, tolerance):
    """A protein's representation does not depend on its batch, nor on its place in it.

    To rounding: matrix products of a few rows may sum in another order than those of many.
    """
    encoder = random_encoder(embed_dim=64).to(dtype)
    long = "ACDEFGHIKLMNPQRSTVWY" * 15
    sequences = ["MKTAYIAKQR", "G", "ACDEFGHIKLMNPQRSTVWYX", long, "MK#AYIA#QR", "WWWW", "MKT/AYIAKQR"]
    together = encoder(make_batch(*sequences))
    alone = [encoder(make_batch(sequence)) for sequence in sequences]
    for name in ("residue", "protein"):
        expected = torch.cat([getattr(one, name) for one in alone])
        assert (getattr(together, name) - expected).abs().max() < tolerance * expected.abs().max()


def test_weights_in_bfloat16_keep_close_to_float32(make_batch):
    """Positions are turned in float32 all the same: far residues are no worse than near ones."""
    encoder = random_encoder(embed_dim=64)
    batch = make_batch("ACDEFGHIKLMNPQRSTVWY" * 30)
    expected = encoder(batch).residue
    found = encoder.to(torch.bfloat16)(batch).residue
    assert found.dtype == torch.bfloat16
    for rows in (slice(0, 100), slice(-100, None)):
        assert (found[rows] - expected[rows]).norm() < 0.02 * expected[rows].norm()


def test_sequences_are_read_whole(make_batch):
    """Nothing is cut at the 1,022 residues of the original: the last residue counts."""
    encoder = random_encoder()
    long = "ACDEFGHIKLMNPQRSTVWY" * 60
    first, second = encoder(make_batch(long + "A")), encoder(make_batch(long + "W"))
    assert first.residue.shape == (1201, 16)
    assert not torch.allclose(first.residue[-1], second.residue[-1], atol=1e-3)


def test_every_parameter_gets_a_gradient(make_batch):
    """No head is carried along that DDP would wait for."""
    encoder = random_encoder()
    encoder(make_batch("ACDEFGHIKLMNPQRSTVWY", "MKT")).residue.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_proteins_without_residues_are_zeros(make_batch):
    encoder = random_encoder()
    batch = make_batch("ACD", "EFG", "HIK")
    one_empty = batch.select(torch.tensor([True] * 3 + [False] * 3 + [True] * 3))
    encoding = encoder(one_empty)
    assert torch.allclose(encoding.residue, encoder(make_batch("ACD", "HIK")).residue, atol=1e-6)
    assert not encoding.protein[1].any()
    nothing = encoder(batch.select(torch.zeros(9, dtype=torch.bool)))
    assert nothing.residue.shape == (0, 16)
    assert nothing.protein.shape == (3, 16)
    assert not nothing.protein.any()


def test_batch_is_left_as_it_is(make_batch):
    batch = make_batch("AC#", "DX")
    before = batch.residue_type.clone()
    random_encoder()(batch)
    assert torch.equal(batch.residue_type, before)


def test_same_seed_same_random_weights():
    first, second = random_encoder(), random_encoder()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.weights_sha256 is None


def test_random_weights_train(make_batch):
    """A few steps of Adam bring the loss down, without a jump."""
    encoder = random_encoder(embed_dim=32)
    head = torch.nn.Linear(32, 20)
    batch = make_batch("ACDEFGHIKLMNPQRSTVWY", "MKTAYIAKQR")
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(head(encoder(batch).residue), batch.residue_type)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert max(losses) < 1.5 * losses[0]


def test_autocast_keeps_close_to_float32(make_batch):
    """Under bf16 autocast the result is float32 and differs by bf16 rounding only, at far positions too."""
    encoder = random_encoder(embed_dim=64)
    batch = make_batch("ACDEFGHIKLMNPQRSTVWY" * 30)
    expected = encoder(batch).residue
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(batch).residue
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_loaded_file_is_known_by_its_sha256(fixtures):
    path = fixtures / "esm2_t2_tiny.pt"
    assert ESM2(ESM2.Settings(**TINY, weights=str(path))).weights_sha256 == file_sha256(path)


def test_pretrained_without_a_checkpoint_says_what_to_do():
    with pytest.raises(WeightsError) as caught:
        ESM2(ESM2.Settings(**TINY))
    assert str(caught.value).splitlines() == [
        "esm2 without a preset has no pretrained weights",
        "  choose a published model such as esm2_650m (see: esmgn list seq)",
        "  or a file of weights: --set seq.weights=PATH",
        "  or start from random weights: --set seq.weights=random",
    ]


@pytest.mark.parametrize("heads", [3, 16, 0])
def test_heads_must_divide_the_width_evenly(heads):
    with pytest.raises(ValidationError, match="attention_heads"):
        ESM2.Settings(num_layers=1, embed_dim=16, attention_heads=heads)


def test_layers_are_taken_side_by_side_and_the_last_is_normalised() -> None:
    settings = {"num_layers": 3, "embed_dim": 16, "attention_heads": 2, "weights": "random"}
    torch.manual_seed(0)
    last = ESM2(ESM2.Settings(**settings)).eval()
    taken = ESM2(ESM2.Settings(**settings, layers=(0, 2, -1))).eval()
    taken.load_state_dict(last.state_dict())
    batch = example_batch()
    encoding = taken(batch)
    assert taken.output_dim == encoding.residue.shape[1] == 48
    assert torch.equal(encoding.residue[:, 32:], last(batch).residue)
    first = ESM2(ESM2.Settings(**settings, layers=(2,))).eval()
    first.load_state_dict(last.state_dict())
    assert torch.equal(encoding.residue[:, 16:32], first(batch).residue)


def test_blocks_that_are_not_run_are_not_trained() -> None:
    """Otherwise several processes would wait for gradients that never come."""
    settings = {"num_layers": 3, "embed_dim": 16, "attention_heads": 2, "weights": "random"}
    encoder = ESM2(ESM2.Settings(**settings, layers=(1,)))
    encoder(example_batch()).protein.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in encoder.parameters())
    assert not any(p.requires_grad for p in encoder.model.layers[1:].parameters())


@pytest.mark.parametrize("layers", [(4,), (-5,), ()])
def test_a_layer_that_does_not_exist_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="layers"):
        ESM2.Settings(num_layers=3, embed_dim=16, attention_heads=2, weights="random", layers=layers)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    settings = {"num_layers": 3, "embed_dim": 16, "attention_heads": 2, "weights": "random"}
    torch.manual_seed(0)
    plain = ESM2(ESM2.Settings(**settings))
    saving = ESM2(ESM2.Settings(**settings, gradient_checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    for encoder in (plain, saving):
        encoder(example_batch()).protein.square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)
