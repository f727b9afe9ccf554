from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.weights import Checkpoint, locate
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.golden import Agreement, compare
from esmgn_esm2.tokens import ALPHABET

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "goldens"
PUBLISHED_8M = Checkpoint(
    url="https://dl.fbaipublicfiles.com/fair-esm/models/esm2_t6_8M_UR50D.pt",
    md5="8039fc9cee7f71cd2633b13b5a38ff50",
    license="MIT",
)


def golden(path, encoder, batch, *, noise=0.0, logits=None):
    """A recording of three sequences made with ``encoder``, padded as those that were published.

    ``logits`` [N, 20] of the amino acids are recorded too if they are given.
    """
    ids = torch.ones(3, 12, dtype=torch.int64)
    mask = torch.zeros(3, 12, dtype=torch.bool)
    hidden = torch.zeros(3, 12, encoder.output_dim)
    residue = encoder(batch).residue.detach()
    for row, (start, end) in enumerate(batch.ptr.unfold(0, 2, 1).tolist()):
        mask[row, 1 : end - start + 1] = True
        ids[row, mask[row]] = encoder.token_table[batch.residue_type[start:end]]
        hidden[row, mask[row]] = residue[start:end] + noise * torch.randn(end - start, encoder.output_dim)
    recording = {"input__input_ids": ids, "residue_mask": mask, "output__last_hidden_state": hidden}
    if logits is not None:
        tokens = [ALPHABET.index(letter) for letter in AMINO_ACIDS]
        every = torch.zeros(3, 12, len(ALPHABET))
        every[mask] = torch.zeros(batch.num_residues, len(ALPHABET)).index_copy(
            1, torch.tensor(tokens), logits
        )
        recording["output__logits"] = every
    save_file(recording, path)
    return path


def test_comparison_tells_the_same_weights_from_others(tmp_path, make_batch):
    torch.manual_seed(0)
    settings = ESM2.Settings(num_layers=1, embed_dim=16, attention_heads=4, weights="random")
    encoder, other = ESM2(settings), ESM2(settings)
    batch = make_batch("ACDEFG", "HI", "KLMNPQRSTV")
    same = compare(encoder, golden(tmp_path / "same.safetensors", encoder, batch))
    rounded = compare(encoder, golden(tmp_path / "rounded.safetensors", encoder, batch, noise=0.01))
    wrong = compare(other, tmp_path / "same.safetensors")
    assert same == Agreement(18, pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert same.within_bfloat16()
    assert rounded.within_bfloat16()
    assert not wrong.within_bfloat16()


def test_logits_are_compared_where_they_were_recorded(tmp_path, make_batch):
    """Representations agree; a head of other weights alone makes the comparison fail."""
    torch.manual_seed(0)
    settings = ESM2.Settings(num_layers=1, embed_dim=16, attention_heads=4, weights="random", lm_head=True)
    encoder, batch = ESM2(settings), make_batch("ACDEFG", "HI", "KLMNPQRSTV")
    with torch.no_grad():
        logits = encoder.residue_logits(batch)
    same = compare(encoder, golden(tmp_path / "same.safetensors", encoder, batch, logits=logits))
    wrong = compare(encoder, golden(tmp_path / "wrong.safetensors", encoder, batch, logits=logits + 1))
    assert same.logits_difference == pytest.approx(0, abs=1e-6)
    assert same.within_bfloat16()
    assert wrong.relative_difference == pytest.approx(0, abs=1e-6)
    assert not wrong.within_bfloat16()
    path = tmp_path / "weights.safetensors"
    save_file({name: value.clone() for name, value in encoder.model.state_dict().items()}, path)
    loaded = settings.model_copy(update={"weights": path, "lm_head": False})
    assert not ESM2.verify(loaded, tmp_path / "wrong.safetensors").passed
    verified = ESM2.verify(loaded, tmp_path / "same.safetensors")
    assert verified.passed
    assert verified.text.endswith("relative difference of logits 0.0000")


def test_published_8m_weights_reproduce_recorded_representations():
    """The published 8M model, run here, gives what was recorded elsewhere, up to bfloat16."""
    recorded = RECORDED / "esm2_8m.safetensors"
    if not recorded.exists():
        pytest.skip("no recorded representations beside this checkout")
    if locate(PUBLISHED_8M) is None:
        pytest.skip(f"needs {PUBLISHED_8M.filename} in the cache or in ESMGN_WEIGHTS_DIR; see: esmgn weights")
    encoder = ESM2(ESM2.Settings(num_layers=6, embed_dim=320, attention_heads=20, checkpoint=PUBLISHED_8M))
    agreement = compare(encoder, recorded)
    assert agreement.num_residues == 103
    assert agreement.within_bfloat16(), agreement
