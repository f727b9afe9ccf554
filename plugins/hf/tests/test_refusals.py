"""Models that are no protein language models, incomplete or out of reach are refused with a reason."""

# ruff: noqa: S106 - tokens, not passwords

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import SettingsError, WeightsError
from esmgn_hf.encoder import HuggingFaceEncoder
from esmgn_hf.tokens import tokens_of


def load(model: object, **settings: object) -> HuggingFaceEncoder:
    return HuggingFaceEncoder(HuggingFaceEncoder.Settings(model=str(model), **settings))


@pytest.fixture
def copy(family, tmp_path) -> Path:
    """A folder of BERT that may be changed."""
    return Path(shutil.copytree(family("bert").folder, tmp_path / "copy"))


def test_without_a_model_the_setting_is_named():
    with pytest.raises(SettingsError, match=r"needs a model\n  name one: --set seq\.model=ORG/NAME"):
        HuggingFaceEncoder(HuggingFaceEncoder.Settings())


def test_a_repository_that_is_not_in_the_cache_names_its_download():
    with pytest.raises(WeightsError, match=r"not in the cache.*\n  .*hf download some/model --revision abc"):
        load("some/model", revision="abc")


def test_code_of_a_repository_is_not_run(copy):
    config = json.loads((copy / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (copy / "config.json").write_text(json.dumps({**config, **own}))
    (copy / "own.py").write_text("raise SystemExit('code of the repository was run')\n")
    with pytest.raises(WeightsError, match="it needs code of its repository, which esmgn does not run"):
        load(copy)


def test_weights_without_a_block_are_refused(copy):
    state = load_file(copy / "model.safetensors")
    kept = {name: value for name, value in state.items() if "layer.1." not in name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack .*encoder\.layer\.1\..* and \d+ more"):
        load(copy)


def test_a_folder_without_weights_or_tokenizer_is_refused(copy, tmp_path):
    weights = (copy / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"cannot load .*copy: .*model\.safetensors"):
        load(copy)
    weights.rename(copy / "model.safetensors")
    for file in copy.glob("*token*"):
        file.unlink()
    (copy / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="tokenizer"):
        load(copy)


@pytest.mark.parametrize("words", [["protein", "structure"], [*AMINO_ACIDS[1:], "X"]])
def test_tokenizers_of_other_text_are_refused(words, copy):
    vocabulary = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    for file in copy.glob("*token*"):
        file.unlink()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(copy)
    with pytest.raises(WeightsError, match="does not have a token for each amino acid"):
        load(copy)


def test_a_tokenizer_with_tokens_between_residues_is_refused():
    class Spaced:
        unk_token_id = None

        def __call__(self, letters, *, add_special_tokens=True, **_):
            tokens = range(len(letters))
            return {"input_ids": [part for token in tokens for part in (token, 99)[: 1 + add_special_tokens]]}

    with pytest.raises(WeightsError, match="tokens between residues"):
        tokens_of(Spaced(), "a model")
