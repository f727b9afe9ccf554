"""The transformer of ESM-2, on packed tokens: no padding, no attention mask.

Parameters have the names of fair-esm, so that published checkpoints load without renaming. The contact head
is left out. The language-model head is optional.

Source: Lin et al. 2023 (doi 10.1126/science.ade2574).
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esmgn_core.attention import Pack, attend, attention_weights
from esmgn_core.layers import Inject
from esmgn_esm2.language_head import LanguageHead
from esmgn_esm2.tokens import ALPHABET, MASK, PackedTokens

MASK_SHARE_IN_TRAINING = 0.15 * 0.8
"""Share of ``<mask>`` tokens when ESM-2 was trained: 80 % of the chosen 15 %."""

_FEED_FORWARD_BYTES = 20_000_000
"""Size above which the inner activation of a feed-forward layer is computed in parts, if no gradient is
needed. The allocator returns larger blocks to the system, which zeroes them page by page when they are
allocated again."""


class Transformer(nn.Module):
    """ESM-2 up to the final layer normalisation.

    Args:
        num_layers: blocks.
        embed_dim: width D of the representation.
        attention_heads: heads of each block; ``embed_dim / attention_heads`` must be even.
        lm_head: add the language-model head.
    """

    recompute: bool = False
    """Keep only the input of each block for the backward pass and recompute the rest."""
    token_dropout: bool = True
    """Scale embeddings as in the training of ESM-2, where ``<mask>`` tokens were zeroed."""

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

    def forward(self, tokens: PackedTokens, output_layers: Collection[int]) -> dict[int, Tensor]:
        """Representations of every token after some of the blocks. Later blocks are not run.

        Args:
            tokens: T tokens.
            output_layers: numbers of the blocks, 1 for the first, 0 for the embedding.

        Returns:
            float [T, D] by number of the block. The output of the last block is normalised.
        """
        hidden = self.embed(tokens)
        hiddens = {0: hidden} if 0 in output_layers else {}
        rotary = self.rotary(tokens, hidden.dtype)
        for number in range(1, max(output_layers) + 1):
            hidden = self.block(number, hidden, rotary, tokens.pack)
            if number in output_layers:
                hiddens[number] = hidden
        if len(self.layers) in output_layers:
            hiddens[len(self.layers)] = self.emb_layer_norm_after(hidden)
        return hiddens

    def block(
        self, number: int, hidden: Tensor, rotary: Tensor | None, pack: Pack, inject: Inject | None = None
    ) -> Tensor:
        """Representations [T, D] after the block ``number``, from 1, given those before it."""
        layer = self.layers[number - 1]
        if self.recompute and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(layer, hidden, rotary, pack, inject, use_reentrant=False)
            return recomputed
        after: Tensor = layer(hidden, rotary, pack, inject)
        return after

    def attention_weights(self, tokens: PackedTokens) -> Iterator[list[Tensor]]:
        """Attention weights of every token, block by block.

        Returns:
            For each group of sequences of equal length float [sequences, heads, length, length].
        """
        hidden = self.embed(tokens)
        rotary = self.rotary(tokens, hidden.dtype)
        for layer in self.layers:
            assert isinstance(layer, Layer)  # noqa: S101 - for the type checker
            query, key, _ = layer.self_attn.project(layer.self_attn_layer_norm(hidden), rotary)
            yield attention_weights(query, key, tokens.pack)
            hidden = layer(hidden, rotary, tokens.pack)

    def rotary(self, tokens: PackedTokens, dtype: torch.dtype) -> Tensor | None:
        """Rotary angles of the tokens; ``None`` if positions are part of the embedding."""
        return rotary_angles(tokens.position, self.head_dim, dtype)

    def embed(self, tokens: PackedTokens) -> Tensor:
        """Embed tokens, float [T, D]. Scaling compensates for the zeroed masks of a sequence.

        Rows that sequences have in addition do not count as tokens; their values are to be replaced.
        """
        masked = tokens.token == MASK
        embedding: Tensor = self.embed_tokens(tokens.token)
        embedding = embedding.masked_fill(masked.unsqueeze(1), 0.0)
        if not self.token_dropout:
            return embedding
        scale_type = torch.promote_types(embedding.dtype, torch.float32)
        num_masked = torch.zeros_like(tokens.lengths, dtype=scale_type)
        num_masked = num_masked.index_add(0, tokens.sequence_index, masked.to(scale_type))
        own = tokens.lengths - (1 if len(tokens.added_row) else 0)
        scale = (1 - MASK_SHARE_IN_TRAINING) / (1 - num_masked / own)
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

    def compile(self, **options: Any) -> None:
        """Compile what is done row by row.

        Attention stays as it is: it goes by the lengths of the sequences, and those of a new batch would
        have it compiled again. With ``dynamic=True`` both parts are compiled once for all blocks, and
        again only for another data type, with and without gradients.
        """
        for part in (self.before_attention, self.after_attention):
            setattr(self, part.__name__, torch.compile(part, **options))

    def forward(
        self, hidden: Tensor, rotary: Tensor | None, pack: Pack, inject: Inject | None = None
    ) -> Tensor:
        """Update the representations, float [T, D], with additions to queries, keys and values."""
        if inject is None:
            query, key, value = self.before_attention(hidden, rotary)
        else:
            normalized = self.self_attn_layer_norm(hidden)
            query, key, value = self.self_attn.project(normalized, rotary, inject(normalized))
        return self.after_attention(hidden, attend(query, key, value, pack))

    def before_attention(self, hidden: Tensor, rotary: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every row, float [T, heads, head_dim]."""
        return self.self_attn.project(self.self_attn_layer_norm(hidden), rotary)

    def after_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Representations [T, D] after the block, from those before it and the values mixed by attention."""
        hidden = hidden + self.self_attn.out_proj(mixed.flatten(1))
        rows = self._rows_at_once(hidden)
        if rows is None:
            return hidden + self._feed_forward(hidden)
        for part in torch.split(hidden, rows):
            part += self._feed_forward(part)
        return hidden

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        update: Tensor = self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))
        return update

    def _rows_at_once(self, hidden: Tensor) -> int | None:
        """Number of rows to process at once, ``None`` for all; see ``_FEED_FORWARD_BYTES``."""
        if torch.compiler.is_compiling():
            return None
        row = self.fc1.out_features * hidden.element_size()
        if len(hidden) * row <= _FEED_FORWARD_BYTES or self._learns(hidden):
            return None
        return max(256, _FEED_FORWARD_BYTES // row // 2)

    def _learns(self, hidden: Tensor) -> bool:
        trained = any(parameter.requires_grad for parameter in self.parameters())
        return torch.is_grad_enabled() and (trained or hidden.requires_grad)


class SelfAttention(nn.Module):
    """Multi-head self-attention within each sequence of the pack, with or without rotary positions."""

    def __init__(self, embed_dim: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.head_dim = embed_dim // attention_heads
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

    def project(
        self, hidden: Tensor, rotary: Tensor | None, additions: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every row, float [T, heads, head_dim].

        ``additions``, float [T, D] each, are added to the three before the rotation.

        With rotary positions the components of queries and keys are reordered: j and j + head_dim / 2,
        which rotate together, become adjacent. Products of queries and keys do not change.
        """
        query_key, value = self._projected(hidden, additions, in_pairs=rotary is not None)
        if rotary is not None:
            # Rotate in float32 under autocast too: large positions lose digits in half precision.
            query_key = rotate(query_key, rotary).to(value.dtype)
        query, key = query_key.chunk(2, dim=1)
        return query, key, value

    def _projected(
        self, hidden: Tensor, additions: Sequence[Tensor] | None, *, in_pairs: bool
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys [T, 2 heads, head_dim], and values [T, heads, head_dim]."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if all(type(projection) is nn.Linear for projection in projections):
            # One matrix product is faster than three. Parameters stay separate, under fair-esm's names.
            weight = self._joined([projection.weight for projection in projections], in_pairs=in_pairs)
            bias = self._joined([projection.bias for projection in projections], in_pairs=in_pairs)
            rows = F.linear(hidden, weight, bias)
        else:  # a projection is wrapped by another module, such as LoRA: call it
            rows = self._joined_rows([each(hidden) for each in projections], in_pairs=in_pairs)
        if additions is not None:
            rows = rows + self._joined_rows(additions, in_pairs=in_pairs)
        heads = rows.view(len(rows), 3 * self.attention_heads, self.head_dim)
        return heads[:, : 2 * self.attention_heads], heads[:, 2 * self.attention_heads :]

    def _joined_rows(self, parts: Sequence[Tensor], *, in_pairs: bool) -> Tensor:
        """Concatenate rows of queries, keys and values, [T, D] each, to [T, 3 D]."""
        return self._joined([part.t() for part in parts], in_pairs=in_pairs).t().contiguous()

    def _joined(self, parts: Sequence[Tensor], *, in_pairs: bool) -> Tensor:
        """Concatenate queries, keys and values, [D, ...] each; ``in_pairs`` reorders their components."""
        query, key, value = parts
        if in_pairs:
            halves = (self.attention_heads, 2, self.head_dim // 2, *query.shape[1:])
            query, key = (part.reshape(halves).transpose(1, 2).reshape(part.shape) for part in (query, key))
        return torch.cat([query, key, value])


def rotary_angles(position: Tensor, head_dim: int, dtype: torch.dtype) -> Tensor:
    """Cosine and sine of ``position * 10000 ** (-2 j / head_dim)``, j < head_dim / 2.

    Args:
        position: int64 [T].
        head_dim: width of a head.
        dtype: type of the representations; angles are at least float32.

    Returns:
        float [T, 1, head_dim / 2, 2].
    """
    angle_type = torch.promote_types(dtype, torch.float32)
    frequency = rotary_frequencies(head_dim).to(position.device, angle_type)
    angles = position.to(angle_type).unsqueeze(1) * frequency
    return torch.stack([angles.cos(), angles.sin()], dim=-1).unsqueeze(1)


def rotary_frequencies(head_dim: int) -> Tensor:
    """Rotary frequencies, float32 [head_dim / 2], computed on the CPU to be equal on every device."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    return 1.0 / 10000**exponent


def rotate(vectors: Tensor, rotary: Tensor) -> Tensor:
    """Rotate components 2 j and 2 j + 1 of every head by the rotary angles.

    Args:
        vectors: float [T, heads, head_dim].
        rotary: see :func:`rotary_angles`.

    Returns:
        float [T, heads, head_dim], at least float32.
    """
    pairs = vectors.to(rotary.dtype).view(*vectors.shape[:-1], vectors.shape[-1] // 2, 2)
    if torch.compiler.is_compiling():  # the compiler fuses real operations but not complex ones
        (first, second), (cosine, sine) = pairs.unbind(-1), rotary.unbind(-1)
        turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotary))
    return turned.flatten(-2)
