"""The transformer of ESM-1b and ESM-1v, on packed tokens.

It differs from ESM-2 by its learned position embeddings, which limit the length of a sequence.

Source: Rives et al. 2021 (doi 10.1073/pnas.2016239118) and Meier et al. 2021 (ESM-1v).
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from esmgn_core.errors import WeightsError
from esmgn_esm2.checkpoint import Size, Weights, fill, read_weights
from esmgn_esm2.model import Transformer
from esmgn_esm2.tokens import PackedTokens

MAX_TOKENS = 1024
"""Positions of the published models, ``<cls>`` and ``<eos>`` included."""

_FIRST_POSITION = 2
"""Row of the position of ``<cls>``: as in fairseq, the rows up to the padding token's id stay unused."""
_ARCHITECTURE = "roberta_large"
_POSITIONS = "embed_positions.weight"
_NORM_BEFORE = "emb_layer_norm_before.weight"


class LearnedPositionTransformer(Transformer):
    """ESM-1b or ESM-1v up to the final layer normalisation.

    Args:
        num_layers: blocks.
        embed_dim: width D of the representation.
        attention_heads: heads of each block.
        max_tokens: number of positions.
        norm_before: normalise embeddings before the first block.
        token_dropout: scale embeddings as in training with ``<mask>`` tokens zeroed.
        lm_head: add the language-model head.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        embed_dim: int,
        attention_heads: int,
        max_tokens: int = MAX_TOKENS,
        norm_before: bool = True,
        token_dropout: bool = True,
        lm_head: bool = False,
    ) -> None:
        super().__init__(
            num_layers=num_layers, embed_dim=embed_dim, attention_heads=attention_heads, lm_head=lm_head
        )
        self.max_tokens = max_tokens
        self.token_dropout = token_dropout
        self.embed_positions = nn.Embedding(max_tokens + _FIRST_POSITION, embed_dim)
        self.emb_layer_norm_before = nn.LayerNorm(embed_dim) if norm_before else nn.Identity()

    def embed(self, tokens: PackedTokens) -> Tensor:
        """Embed tokens and their positions, float [T, D]."""
        positions = self.embed_positions(tokens.position + _FIRST_POSITION)
        embedded: Tensor = self.emb_layer_norm_before(super().embed(tokens) + positions)
        return embedded

    def rotary(self, tokens: PackedTokens, dtype: torch.dtype) -> Tensor | None:  # noqa: ARG002
        """``None``: positions are part of the embedding."""
        return None


def load_model(path: Path, size: Size, *, lm_head: bool) -> LearnedPositionTransformer:
    """Load a model from a file in the layout of fair-esm's ESM-1b and ESM-1v.

    The file determines the variant: the number of positions, the normalisation before the first block, and
    token dropout.

    Args:
        path: the file.
        size: the required size.
        lm_head: load the language-model head too.

    Raises:
        WeightsError: the file cannot be read, is of another architecture or size, or its tensors differ in
            name or shape.
    """
    weights = read_weights(path)
    _check_architecture(weights)
    # On the meta device nothing is allocated or initialised: the file's tensors become the parameters.
    with torch.device("meta"):
        model = LearnedPositionTransformer(
            **size._asdict(),
            max_tokens=len(weights.state[_POSITIONS]) - _FIRST_POSITION,
            norm_before=_NORM_BEFORE in weights.state,
            token_dropout=bool(weights.arguments.get("token_dropout", True)),
            lm_head=lm_head,
        )
    fill(model, weights, size)
    return model


def _check_architecture(weights: Weights) -> None:
    architecture = weights.arguments.get("arch", _ARCHITECTURE)
    if architecture != _ARCHITECTURE:
        raise WeightsError(
            f"weights in {weights.path} are of the architecture '{architecture}': "
            "esm1 reads ESM-1b and ESM-1v",
            f"expected the architecture '{_ARCHITECTURE}'",
        )
    if _POSITIONS not in weights.state:
        raise WeightsError(
            f"weights in {weights.path} have no learned positions: this is not ESM-1b or ESM-1v",
            "for ESM-2, use the sequence encoder esm2: --seq esm2",
        )
