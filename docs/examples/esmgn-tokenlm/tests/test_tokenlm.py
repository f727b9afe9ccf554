import torch
from esmgn_tokenlm.encoder import TokenLMEncoder
from esmgn_tokenlm.model import ALPHABET

from esmgn_core.alphabet import AMINO_ACIDS, decode
from esmgn_core.batch import ProteinBatch
from esmgn_core.testing import check_plugin, example_proteins


def test_the_plugin_keeps_its_contracts():
    check_plugin("tokenlm")


def test_weights_of_a_file_give_the_logits_of_the_model(tmp_path):
    torch.manual_seed(0)
    published = TokenLMEncoder(TokenLMEncoder.Settings())
    torch.save(published.model.state_dict(), tmp_path / "weights.pt")
    encoder = TokenLMEncoder(TokenLMEncoder.Settings(weights=tmp_path / "weights.pt")).eval()
    chain = ProteinBatch.from_proteins([max(example_proteins(), key=len)])
    sequence = decode(chain.residue_type.tolist()).replace("X", "?")
    tokens = torch.tensor([[ALPHABET.index(letter) for letter in sequence]])
    logits = published.eval().model.to_tokens(published.model(tokens))[0]
    expected = logits[:, [ALPHABET.index(letter) for letter in AMINO_ACIDS]]
    torch.testing.assert_close(encoder.residue_logits(chain), expected, rtol=1e-5, atol=1e-5)
