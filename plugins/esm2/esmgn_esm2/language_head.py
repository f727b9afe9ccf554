"""The language-model head: logits of tokens from representations."""

import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor, nn

from esmgn_esm2.tokens import ALPHABET


class LanguageHead(nn.Module):
    """Logits of tokens: similarities of a transformed representation and each token's embedding.

    The head is frozen. No loss depends on it, and several processes would wait for its gradients.

    Args:
        embed_dim: width D of the representation.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embed_dim, embed_dim)
        self.layer_norm = nn.LayerNorm(embed_dim)
        self.bias = nn.Parameter(self.dense.weight.new_zeros(len(ALPHABET)))

    def forward(self, hidden: Tensor, embedding: Tensor, tokens: Tensor) -> Tensor:
        """Logits of some tokens.

        Args:
            hidden: float [N, D], representations after the final normalisation.
            embedding: float [33, D], the embedding of every token.
            tokens: int64 [K], the tokens to score.

        Returns:
            float [N, K], at least float32.
        """
        transformed = self.layer_norm(F.gelu(self.dense(hidden)))
        logits = F.linear(transformed, embedding[tokens])
        return logits.to(self.bias.dtype) + self.bias[tokens]
