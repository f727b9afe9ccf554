"""The transformer of ESM-2, on packed tokens: no padding, no attention mask.

Parameters bear the names of fair-esm's, so that published checkpoints load as they are. The
contact head is left out, and so is the language-model head unless it is asked for.

Source: Lin et al. 2023 (doi 10.1126/science.ade2574).
"""

from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esmgn_core.attention import Group, attend, attention_weights
from esmgn_esm2.language_head import LanguageHead
from esmgn_esm2.tokens import ALPHABET, MASK, PackedTokens

MASK_SHARE_IN_TRAINING = 0.15 * 0.8
"""Share of ``<mask>`` tokens when ESM-2 was trained: 80 % of the chosen 15 %."""

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine of the rotary angles, each [T, 1, head_dim / 2]."""


class Transformer(nn.Module):
    """ESM-2 up to the final layer normalisation.

    Args:
        num_layers: blocks.
        embed_dim: width D of the representation.
        attention_heads: heads of each block; ``embed_dim / attention_heads`` is even.
        lm_head: whether it has the language-model head.
    """

    recompute: bool = False
    """Keep only the input of each block for the backward pass and compute the rest again."""
    token_dropout: bool = True
    """Scale embeddings as in training with ``<mask>`` tokens zeroed, which every ESM-2 was."""

    def __init__(
        self, *, num_layers: int, embed_dim: int, attention_heads: int, lm_head: bool = False
    ) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.head_dim = embed_dim // attention_heads
        self.embed_tokens = nn.Embedding(len(ALPHABET), embed_dim)
        self.layers = nn.ModuleList(Layer(embed_dim, attention_heads) for _ in range(num_layers))
        self.emb_layer_norm_after = nn.LayerNorm(embed_dim)
        self.lm_head = LanguageHead(embed_dim) if lm_head else None

    def forward(self, tokens: PackedTokens, taken: Collection[int]) -> dict[int, Tensor]:
        """Representations of every token after some of the blocks; later blocks are not run.

        Args:
            tokens: T tokens.
            taken: numbers of the blocks, 1 for the first, 0 for the embedding.

        Returns:
            float [T, D] by number of the block; the last one's after the final normalisation.
        """
        hidden = self._embed(tokens)
        hiddens = {0: hidden} if 0 in taken else {}
        rotary = self._rotary(tokens, hidden.dtype)
        for number, layer in enumerate(self.layers[: max(taken)], start=1):
            if self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, rotary, tokens.groups, use_reentrant=False)
            else:
                hidden = layer(hidden, rotary, tokens.groups)
            if number in taken:
                hiddens[number] = hidden
        if len(self.layers) in taken:
            hiddens[len(self.layers)] = self.emb_layer_norm_after(hidden)
        return hiddens

    def attention_weights(self, tokens: PackedTokens) -> Iterator[list[Tensor]]:
        """Attention weights of every token, block by block.

        Returns:
            For each group of sequences of equal length float [sequences, heads, length, length].
        """
        hidden = self._embed(tokens)
        rotary = self._rotary(tokens, hidden.dtype)
        for layer in self.layers:
            assert isinstance(layer, Layer)  # noqa: S101 - for the type checker
            query, key, _ = layer.self_attn.project(layer.self_attn_layer_norm(hidden), rotary)
            yield attention_weights(query, key, tokens.groups)
            hidden = layer(hidden, rotary, tokens.groups)

    def _rotary(self, tokens: PackedTokens, dtype: torch.dtype) -> Rotary | None:
        """What tells attention the positions of tokens; ``None`` if the embedding tells them."""
        return rotary_angles(tokens.position, self.head_dim, dtype)

    def _embed(self, tokens: PackedTokens) -> Tensor:
        """Embed tokens; a sequence with many masks is scaled up to make good for their zeros."""
        masked = tokens.token == MASK
        embedding: Tensor = self.embed_tokens(tokens.token)
        embedding = embedding.masked_fill(masked.unsqueeze(1), 0.0)
        if not self.token_dropout:
            return embedding
        scale_type = torch.promote_types(embedding.dtype, torch.float32)
        num_masked = torch.zeros_like(tokens.lengths, dtype=scale_type)
        num_masked = num_masked.index_add(0, tokens.sequence_index, masked.to(scale_type))
        scale = (1 - MASK_SHARE_IN_TRAINING) / (1 - num_masked / tokens.lengths)
        return embedding * scale[tokens.sequence_index].unsqueeze(1).to(embedding.dtype)


class Layer(nn.Module):
    r"""One pre-normalised block.

    .. math:: x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x)), \quad
              x \leftarrow x + W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(x) + b_1) + b_2
    """

    def __init__(self, embed_dim: int, attention_heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(embed_dim, attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim)
        self.fc1 = nn.Linear(embed_dim, 4 * embed_dim)
        self.fc2 = nn.Linear(4 * embed_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim)

    def forward(self, hidden: Tensor, rotary: Rotary | None, groups: tuple[Group, ...]) -> Tensor:
        """Update the representations, float [T, D]."""
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), rotary, groups)
        update: Tensor = self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))
        return hidden + update


class SelfAttention(nn.Module):
    """Multi-head self-attention within each sequence of the pack, with rotary positions or without."""

    def __init__(self, embed_dim: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Initialise as ESM-2: the three input projections as if they were one Xavier matrix."""
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: Tensor, rotary: Rotary | None, groups: tuple[Group, ...]) -> Tensor:
        """Mix representations within each sequence, float [T, D]."""
        query, key, value = self.project(hidden, rotary)
        mixed: Tensor = self.out_proj(attend(query, key, value, groups).flatten(1))
        return mixed

    def project(self, hidden: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values with their positions, float [T, heads, head_dim] each."""
        heads = (self.attention_heads, -1)
        value = self.v_proj(hidden).unflatten(1, heads)
        query = self.q_proj(hidden).unflatten(1, heads)
        key = self.k_proj(hidden).unflatten(1, heads)
        if rotary is not None:
            # Rotated in float32 under autocast too; attention then runs in the type of the values.
            query, key = rotate(query, rotary).to(value.dtype), rotate(key, rotary).to(value.dtype)
        return query, key, value


def rotary_angles(position: Tensor, head_dim: int, dtype: torch.dtype) -> Rotary:
    """Cosine and sine of ``position * 10000 ** (-2 j / head_dim)``, j < head_dim / 2.

    Args:
        position: int64 [T].
        head_dim: width of a head.
        dtype: type of the representations; angles are at least float32.
    """
    angle_type = torch.promote_types(dtype, torch.float32)
    frequency = rotary_frequencies(head_dim).to(position.device, angle_type)
    angles = position.to(angle_type).unsqueeze(1) * frequency
    return angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)


def rotary_frequencies(head_dim: int) -> Tensor:
    """float32 [head_dim / 2] on the CPU, so that every device gets the same bits."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    return 1.0 / 10000**exponent


def rotate(vectors: Tensor, rotary: Rotary) -> Tensor:
    """Turn component j of every head against component j + head_dim / 2.

    Args:
        vectors: float [T, heads, head_dim].
        rotary: see :func:`rotary_angles`.

    Returns:
        float [T, heads, head_dim], at least float32.
    """
    cosine, sine = rotary
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
