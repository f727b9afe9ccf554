"""A protein language model as its authors would publish it: tokens in padded rows, and no esmgn."""

import torch
from torch import Tensor, nn

ALPHABET = "_?#LAGVSERTIDPKQNFYMHWC"
PADDING = ALPHABET.index("_")


class TokenLM(nn.Module):
    """A transformer encoder with sine positions: tokens [S, L] -> states [S, L, dim]."""

    def __init__(self, dim: int, num_layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.to_tokens = nn.Linear(dim, len(ALPHABET))

    def forward(self, token: Tensor) -> Tensor:
        """States of the tokens; those of padding have no meaning."""
        dim, position = self.embed.embedding_dim, torch.arange(token.shape[1], device=token.device)
        rate = 1e-4 ** (torch.arange(0, dim, 2, device=token.device) / dim)
        phase = position.unsqueeze(1) * rate
        embedded = self.embed(token) + torch.cat([phase.sin(), phase.cos()], 1)[:, :dim]
        states: Tensor = self.blocks(embedded, src_key_padding_mask=token == PADDING)
        return states
