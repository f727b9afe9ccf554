"""ProtBERT, on tiny models in the files of the published one."""

from __future__ import annotations

import sys

import pytest
import torch

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, encode
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import PluginError, RunError, SettingsError, WeightsError
from esmgn_core.host.registry import discover
from esmgn_core.protocols import LanguageModel
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component
from esmgn_core.weights import file_sha256
from esmgn_hf.encoder import HuggingFaceEncoder
from esmgn_hf.protbert import TOKENS, VOCABULARY, ProtBERT

SEQUENCES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGL",
    "ACDEFGHIKLMNPQRSTVWYX",
    "G",
    "MK#AYIA##RQ",
    "ACDEFGHIKLM",
)
TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 2}


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """An empty cache and no connection."""
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ESMGN_OFFLINE", "1")


@pytest.fixture
def folder(tmp_path):
    """A model of transformers with random weights, saved as the published one is."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=60, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForMaskedLM(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "prot_bert"
    model.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return path, model


def batch_of(*sequences: str) -> ProteinBatch:
    """``/`` between chains, ``#`` a masked residue."""
    proteins = []
    for sequence in sequences:
        chains = sequence.split("/")
        letters = "".join(chains)
        residue_type = torch.tensor(encode(letters))
        residue_type[torch.tensor([letter == "#" for letter in letters])] = MASKED
        chain = torch.tensor([number for number, chain in enumerate(chains) for _ in chain])
        zeros = torch.zeros(len(letters), 4, 3)
        proteins.append(
            Protein(sequence, residue_type, zeros, zeros[..., 0] == 0, torch.arange(len(letters)), chain)
        )
    return ProteinBatch.from_proteins(proteins)


def ids(sequence: str) -> torch.Tensor:
    letters = ["[MASK]" if letter == "#" else letter for letter in sequence]
    return torch.tensor([[VOCABULARY.index(token) for token in ("[CLS]", *letters, "[SEP]")]])


def loaded(path, **changes) -> ProtBERT:
    return ProtBERT(ProtBERT.Settings(weights=path, **changes)).eval()


@torch.no_grad()
def test_a_mixed_batch_equals_transformers_one_by_one(folder):
    """Without padding there is nothing to attend to wrongly: the numbers of a mixed batch are those."""
    path, model = folder
    expected = torch.cat([model.bert(ids(sequence)).last_hidden_state[0, 1:-1] for sequence in SEQUENCES])
    encoder = loaded(path)
    encoding = encoder(batch_of(*SEQUENCES))
    assert (encoding.residue - expected).abs().max() < 1e-5 * expected.abs().max()
    first = len(SEQUENCES[0])
    assert torch.allclose(encoding.protein[0], encoding.residue[:first].mean(0), atol=1e-6)
    assert encoder.weights_sha256 == file_sha256(path / "model.safetensors")
    assert encoder.output_dim == 16


@torch.no_grad()
def test_logits_are_those_of_transformers_in_the_order_of_our_amino_acids(folder):
    path, model = folder
    columns = [VOCABULARY.index(letter) for letter in AMINO_ACIDS]
    expected = torch.cat([model(ids(sequence)).logits[0, 1:-1, columns] for sequence in SEQUENCES])
    encoder = loaded(path, lm_head=True)
    assert isinstance(encoder, LanguageModel)
    found = encoder.residue_logits(batch_of(*SEQUENCES))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    with pytest.raises(SettingsError, match=r"no language-model head\n  --set seq\.lm_head=true"):
        loaded(path).residue_logits(batch_of("AC"))


@torch.no_grad()
def test_chains_are_read_apart_or_as_one_sequence(folder):
    path, _ = folder
    complex_ = batch_of("ACDEF/GHIK")
    apart, joined = loaded(path), loaded(path, chains="concatenated")
    assert torch.allclose(apart(complex_).residue, apart(batch_of("ACDEF", "GHIK")).residue, atol=1e-5)
    assert torch.allclose(joined(complex_).residue, apart(batch_of("ACDEFGHIK")).residue, atol=1e-5)
    assert joined.joins_chains


def test_the_vocabulary_of_another_model_is_refused(folder):
    path, _ = folder
    (path / "vocab.txt").write_text("\n".join(VOCABULARY[::-1]))
    with pytest.raises(WeightsError, match=r"vocab\.txt is not ProtBERT's vocabulary"):
        loaded(path)


def test_weights_without_a_head_are_refused_only_where_it_is_asked_for(folder, tmp_path):
    _, model = folder
    model.bert.save_pretrained(tmp_path / "trunk")
    loaded(tmp_path / "trunk")
    with pytest.raises(WeightsError, match=r"lack cls\.predictions.*\n  leave the language-model head out"):
        loaded(tmp_path / "trunk", lm_head=True)


def test_a_folder_without_a_model_and_an_unreachable_hub_say_what_to_do(tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json is missing \(seq\.weights\)"):
        loaded(tmp_path)
    with pytest.raises(WeightsError) as caught:
        ProtBERT(ProtBERT.Settings())
    first, *hints = str(caught.value).splitlines()
    assert first.startswith("cannot load Rostlab/prot_bert_bfd: it is not in the cache of the Hub")
    assert hints == [
        "  download it once: hf download Rostlab/prot_bert_bfd",
        "  set a folder with config.json and weights: --set seq.weights=FOLDER",
        "  or start from random weights: --set seq.weights=random",
    ]


def test_sequences_beyond_its_positions_are_refused_by_name(folder):
    path, _ = folder
    batch = batch_of("ACD", "A" * 59).replace(names=("short", "titin"))
    with pytest.raises(RunError) as caught:
        loaded(path)(batch)
    assert str(caught.value).splitlines() == [
        "protein 'titin' has a sequence of 59 residues: bert has a limit of 58",
        "  encode it in windows: --set length.policy=window --set length.max_residues=58",
    ]


def test_it_keeps_the_contract_of_a_sequence_encoder():
    check_component(Kind.SEQ, "protbert", weights="random", **TINY)


def test_without_transformers_the_extra_is_named(monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "esmgn_hf"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "transformers", None)
    registry = discover()
    with pytest.raises(PluginError) as caught:
        registry.load(registry.component(Kind.SEQ, "protbert"))
    first, *hints = str(caught.value).splitlines()
    assert first.startswith("sequence encoder 'protbert' needs a package that cannot be imported: ")
    assert hints == [
        "  install it: pip install 'esmgn[transformers]'",
        "  or choose another sequence encoder: esmgn list seq",
    ]


def test_tokens_are_those_of_the_published_vocabulary():
    """Ids of vocab.txt of Rostlab/prot_bert_bfd: a swapped pair would spoil the published weights."""
    published = "L5 A6 G7 V8 E9 S10 I11 K12 R13 D14 T15 P16 N17 Q18 F19 Y20 M21 H22 C23 W24 X25"
    for text in published.split():
        letter, number = text[0], int(text[1:])
        assert TOKENS.residue[encode(letter)[0]] == number
    assert (TOKENS.pad, TOKENS.before, TOKENS.after, TOKENS.residue[-1]) == (0, (2,), (3,), 4)


@torch.no_grad()
def test_it_is_written_for_transformers_with_head_and_tokenizer(folder, tmp_path):
    path, _ = folder
    (tmp_path / "out").mkdir()
    assert loaded(path, lm_head=True).save_hugging_face(tmp_path / "out") == []
    batch = batch_of("ACDEF")
    again = HuggingFaceEncoder(HuggingFaceEncoder.Settings(model=str(tmp_path / "out"), lm_head=True)).eval()
    assert torch.equal(again.residue_logits(batch), loaded(path, lm_head=True).residue_logits(batch))
    assert again.tokens == TOKENS
