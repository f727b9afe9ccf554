"""The sequence encoder ``protbert``: ProtBERT-BFD, run by transformers."""

from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.errors import RunError, SettingsError
from esmgn_core.settings import ComponentSettings
from esmgn_core.weights import remembered_digests
from esmgn_protbert.library import BertConfig, BertForMaskedLM, BertModel
from esmgn_protbert.tokens import PAD, VOCABULARY, Rows, padded_rows, token_table
from esmgn_protbert.weights import load, weights_file


class ProtBERT(nn.Module):
    """ProtBERT: representations of residues from the last layer.

    Sequences of similar length are padded and encoded together. Padding is masked, so that the
    representation of a protein does not depend on the other proteins of the batch.

    Attributes:
        output_dim: width of the representation.
        joins_chains: True if all chains of a protein form one sequence.
        weights_sha256: SHA-256 of the loaded file; ``None`` for random weights.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit.

    Source: Elnaggar et al. 2021 (doi 10.1109/TPAMI.2021.3095381).
    """

    class Settings(ComponentSettings):
        originals = MappingProxyType({"chains": "concatenated"})

        weights: Literal["pretrained", "random"] | Path = "pretrained"
        """``pretrained`` (from ``repository``), ``random``, or a folder in the format of Hugging Face."""
        repository: str = "Rostlab/prot_bert_bfd"
        """Repository on the Hugging Face Hub with the ``pretrained`` weights."""
        num_layers: int = Field(30, ge=1)
        """Number of transformer blocks, for random weights only."""
        embed_dim: int = Field(1024, ge=1)
        """Width of the representation, for random weights only."""
        attention_heads: int = Field(16, ge=1)
        """Attention heads of each block, for random weights only."""
        chains: Literal["separate", "concatenated"] = "separate"
        """``separate``: each chain is a sequence. ``concatenated``: the chains of a protein are one sequence
        without a linker."""
        lm_head: bool = False
        """Load the language-model head, which predicts the amino acid at each residue."""
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

        @model_validator(mode="after")
        def _heads_fit(self) -> Self:
            if self.embed_dim % self.attention_heads:
                raise ValueError("attention_heads must divide embed_dim")
            return self

    token_table: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.joins_chains = settings.chains == "concatenated"
        self.weights_sha256: str | None = None
        self.register_buffer("token_table", token_table(), persistent=False)
        model = self._random() if settings.weights == "random" else self._loaded()
        self.model: nn.Module = model.bert if settings.lm_head else model
        self.head: nn.Module | None = (
            model.cls.requires_grad_(requires_grad=False) if settings.lm_head else None
        )
        self.config: Any = model.config
        self.output_dim: int = self.config.hidden_size

    def _random(self) -> Any:
        settings = self.settings
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            num_hidden_layers=settings.num_layers,
            hidden_size=settings.embed_dim,
            num_attention_heads=settings.attention_heads,
            intermediate_size=4 * settings.embed_dim,
            max_position_embeddings=40_000,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return BertForMaskedLM(config) if settings.lm_head else BertModel(config, add_pooling_layer=False)

    def _loaded(self) -> Any:
        settings = self.settings
        source = settings.weights if isinstance(settings.weights, Path) else settings.repository
        kind, options = (
            (BertForMaskedLM, {}) if settings.lm_head else (BertModel, {"add_pooling_layer": False})
        )
        model = load(kind, source, **options)
        if file := weights_file(source):
            self.weights_sha256 = remembered_digests(file).sha256
        return model

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Representations of the last layer.

        Args:
            batch: N residues packed from B proteins; only residue types and chains are read.

        Returns:
            float [N, output_dim] per residue, without ``[CLS]`` and ``[SEP]``; float
            [B, output_dim] per protein.
        """
        return Encoding.from_residues(self._residues(batch), batch, self.settings.readout)

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float [N, 20] of the amino acids at each residue, from the language-model head.

        Raises:
            SettingsError: the encoder was built without ``lm_head``.
        """
        if self.head is None:
            raise SettingsError("this encoder has no language-model head", "--set seq.lm_head=true")
        logits: Tensor = self.head(self._residues(batch))
        return logits[:, self.token_table[: len(AMINO_ACIDS)]]

    def _residues(self, batch: ProteinBatch) -> Tensor:
        self._check_lengths(batch)
        hiddens, residues = [], []
        for rows in padded_rows(batch, self.token_table, join_chains=self.joins_chains):
            hiddens.append(self._hidden(rows))
            residues.append(rows.residue)
        if not hiddens:
            return self.model.get_parameter("embeddings.word_embeddings.weight")[:0]
        order = torch.cat(residues)
        row = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        return torch.cat(hiddens)[row]

    def _hidden(self, rows: Rows) -> Tensor:
        """Representations [M, output_dim] of the residues of the rows."""
        output = self.model(rows.token, attention_mask=(rows.token != PAD).long())
        hidden: Tensor = output.last_hidden_state
        return hidden[rows.is_residue]

    def _check_lengths(self, batch: ProteinBatch) -> None:
        limit = self.config.max_position_embeddings - 2
        ptr = batch.sequence_ptr(join_chains=self.joins_chains)
        longest = int(ptr.diff().max()) if len(ptr) > 1 else 0
        if longest > limit:
            name = batch.names[int(batch.protein_index[ptr[int(ptr.diff().argmax())]])]
            raise RunError(
                f"protein '{name}' has a sequence of {longest} residues: protbert has a limit of {limit}",
                f"encode it in windows: --set length.policy=window --set length.max_residues={limit}",
            )
