"""The sequence encoder ``tokenlm``: the model :class:`esmgn_tokenlm.model.TokenLM`."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_tokenlm.model import ALPHABET, PADDING, TokenLM


class TokenLMEncoder(nn.Module):
    """Translates residue types into tokens, pads chains to rows, and takes the padding out again."""

    class Settings(ComponentSettings):
        weights: Literal["random"] | Path = "random"
        """State dict of the model, a ``.pt`` file; or ``random``."""
        hidden_dim: int = Field(64, ge=4, multiple_of=4)
        """Width of the model, as in the file."""
        num_layers: int = Field(2, ge=1)
        """Blocks of the model, as in the file."""
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

    token: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings, self.output_dim = settings, settings.hidden_dim
        self.model = TokenLM(settings.hidden_dim, settings.num_layers, heads=4)
        if isinstance(settings.weights, Path):
            self.model.load_state_dict(torch.load(settings.weights, map_location="cpu", weights_only=True))
        self.model.to_tokens.requires_grad_(requires_grad=False)  # read by mutate, never trained
        # Residue types: the 20 amino acids, unknown, masked.
        letters = [*AMINO_ACIDS, "?", "#"]
        token = torch.tensor([ALPHABET.index(letter) for letter in letters])
        self.register_buffer("token", token, persistent=False)

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Encode the residue types of N residues: [N, hidden_dim] and [B, hidden_dim]."""
        return Encoding.from_residues(self.states(batch), batch, self.settings.readout)

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits [N, 20] of the amino acids at each residue, for ``esmgn mutate``."""
        logits: Tensor = self.model.to_tokens(self.states(batch))
        return logits[:, self.token[: len(AMINO_ACIDS)]]

    def states(self, batch: ProteinBatch) -> Tensor:
        """States [N, hidden_dim] of all residues; each chain is a row of the model."""
        lengths = batch.sequence_ptr().diff()
        is_residue = torch.arange(int(lengths.max()), device=lengths.device) < lengths.unsqueeze(1)
        rows = torch.full(is_residue.shape, PADDING, device=lengths.device)
        rows[is_residue] = self.token[batch.residue_type]
        states: Tensor = self.model(rows)
        return states[is_residue]
