"""The sequence encoder ``protbert``: ProtBERT-BFD, whose sizes and tokens are known without its files."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import WeightsError
from esmgn_hf.encoder import HuggingFaceEncoder, Parts, SharedSettings
from esmgn_hf.library import BertConfig
from esmgn_hf.loading import Source, build, load, model_class, read_config, weights_digest
from esmgn_hf.tokens import Tokens

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO")
"""ProtBERT's 30 tokens in the order of their ids. Source: vocab.txt of Rostlab/prot_bert_bfd."""
TOKENS = Tokens(
    residue=tuple(VOCABULARY.index(token) for token in (*AMINO_ACIDS, "X", "[MASK]")),
    before=(VOCABULARY.index("[CLS]"),),
    after=(VOCABULARY.index("[SEP]"),),
    pad=VOCABULARY.index("[PAD]"),
)
"""ProtBERT's tokens."""
_HINTS = (
    "set a folder with config.json and weights: --set seq.weights=FOLDER",
    "or start from random weights: --set seq.weights=random",
)


class ProtBERT(HuggingFaceEncoder):
    """ProtBERT: representations of residues, see :class:`HuggingFaceEncoder`.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or are not ProtBERT's.

    Source: Elnaggar et al. 2021 (doi 10.1109/TPAMI.2021.3095381).
    """

    class Settings(SharedSettings):
        """Settings of ``protbert``."""

        weights: Literal["pretrained", "random"] | Path = "pretrained"
        """``pretrained`` (from ``repository``), ``random``, or a folder in the format of Hugging Face."""
        repository: str = "Rostlab/prot_bert_bfd"
        """Repository on the Hugging Face Hub with the ``pretrained`` weights."""
        revision: str | None = None
        """Commit, tag or branch of the repository. Not set for its main branch."""
        num_layers: int = Field(30, ge=1)
        """Number of transformer blocks, for random weights only."""
        embed_dim: int = Field(1024, ge=1)
        """Width of the representation, for random weights only."""
        attention_heads: int = Field(16, ge=1)
        """Attention heads of each block, for random weights only."""

        @model_validator(mode="after")
        def _heads_fit(self) -> Self:
            if self.embed_dim % self.attention_heads:
                raise ValueError("attention_heads must divide embed_dim")
            return self

    def _parts(self) -> Parts:
        settings = self.settings
        if settings.weights == "random":
            config = _config(settings)
            kind = model_class(config, Source("ProtBERT"), lm_head=settings.lm_head)
            return Parts(build(kind, config), TOKENS, None)
        if isinstance(settings.weights, Path):
            source = Source(str(settings.weights), None, "seq.weights", _HINTS)
            _check_vocabulary(settings.weights / "vocab.txt")
        else:
            source = Source(settings.repository, settings.revision, "seq.weights", _HINTS)
        config = read_config(source)
        _check_config(source, config)
        kind = model_class(config, source, lm_head=settings.lm_head)
        return Parts(load(kind, source, config), TOKENS, weights_digest(source))

    def _save_tokenizer(self, folder: Path) -> None:
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer) + "\n", encoding="utf-8")


def _config(settings: Any) -> Any:
    return BertConfig(
        vocab_size=len(VOCABULARY),
        num_hidden_layers=settings.num_layers,
        hidden_size=settings.embed_dim,
        num_attention_heads=settings.attention_heads,
        intermediate_size=4 * settings.embed_dim,
        max_position_embeddings=40_000,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _check_vocabulary(vocabulary: Path) -> None:
    if vocabulary.is_file() and tuple(vocabulary.read_text(encoding="utf-8").split()) != VOCABULARY:
        raise WeightsError(f"{vocabulary} is not ProtBERT's vocabulary")


def _check_config(source: Source, config: Any) -> None:
    if config.model_type != "bert" or config.vocab_size != len(VOCABULARY):
        raise WeightsError(
            f"the model in {source} is not ProtBERT: {config.model_type} with {config.vocab_size} tokens, "
            f"expected bert with {len(VOCABULARY)}",
            "name the model: --seq hf --set seq.model=ORG/NAME",
        )
