"""The sequence encoder ``esm1``: ESM-1b and ESM-1v."""

from pathlib import Path
from typing import NoReturn

import torch
from pydantic import Field
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import RunError, WeightsError
from esmgn_core.weights import fetch, remembered_digests
from esmgn_esm2.checkpoint import Size
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1_model import LearnedPositionTransformer, load_model
from esmgn_esm2.tokens import PackedTokens, pack_tokens, token_table


class ESM1(ESM2):
    """ESM-1b or ESM-1v without heads: residues to the representations of one or more layers.

    Positions end with 1,022 residues; a longer sequence is an error, never cut. A protein's
    representation does not depend on the proteins it is packed with.

    Attributes:
        output_dim: width of the representation, ``embed_dim`` times the number of layers taken.
        weights_sha256: SHA-256 of the loaded file; ``None`` for random weights.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.

    Source: Rives et al. 2021 (doi 10.1073/pnas.2016239118) and Meier et al. 2021 (ESM-1v).
    """

    class Settings(ESM2.Settings):
        """Settings of ``esm1``; presets such as ``esm1b_650m`` and ``esm1v_650m_1`` are published models."""

        num_layers: int = Field(33, ge=1)
        """Transformer blocks."""
        embed_dim: int = Field(1280, ge=2)
        """Width of the representation."""
        published_at: str | None = None
        """Address of the published file. No checksum of it is known here, so it is not downloaded:
        fetch it, and name its path in ``weights``. Presets set it."""

    settings: Settings
    model: LearnedPositionTransformer

    def __init__(self, settings: Settings) -> None:
        nn.Module.__init__(self)  # ESM2 would build its own transformer
        self.settings = settings
        self.output_dim = settings.embed_dim * len(settings.layers)
        self.weights_sha256 = None
        self.register_buffer("token_table", token_table(settings.unknown_residue), persistent=False)
        size = Size(settings.num_layers, settings.embed_dim, settings.attention_heads)
        if settings.weights == "random":
            self.model = LearnedPositionTransformer(**size._asdict())
        else:
            path = _weights_path(settings)
            self.model = load_model(path, size)
            self.weights_sha256 = remembered_digests(path).sha256
        self.model.recompute = settings.gradient_checkpointing
        self._freeze_blocks_not_run()

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Representations of the taken layers, those of the last after its normalisation.

        Args:
            batch: N residues packed from B proteins; only residue types and chains are read.

        Returns:
            float [N, output_dim] per residue, without ``<cls>`` and ``<eos>``; float
            [B, output_dim] per protein.

        Raises:
            RunError: a sequence is longer than there are positions.
        """
        tokens = pack_tokens(batch, self.token_table, self.settings.chains)
        if max((group.length for group in tokens.groups), default=0) > self.model.max_tokens:
            _refuse(batch, tokens, self.model.max_tokens)
        hiddens = self.model(tokens, self.settings.taken)
        residue = torch.cat([hiddens[layer][tokens.residue_row] for layer in self.settings.taken], dim=1)
        return Encoding.from_residues(residue, batch, self.settings.readout)


def _refuse(batch: ProteinBatch, tokens: PackedTokens, max_tokens: int) -> NoReturn:
    """Name the protein with the longest sequence."""
    lengths = tokens.lengths[tokens.sequence_index[tokens.residue_row]] - 2
    residue = int(lengths.argmax())
    name = batch.names[int(batch.protein_index[residue])]
    raise RunError(
        f"protein '{name}' has a sequence of {int(lengths[residue])} residues: "
        f"esm1 has positions for {max_tokens - 2}",
        "leave the protein out or crop it, or",
        "choose an encoder without a limit, such as esm2_650m (see: esmgn list seq)",
    )


def _weights_path(settings: ESM1.Settings) -> Path:
    if isinstance(settings.weights, Path):
        if settings.weights.is_file():
            return settings.weights
        raise WeightsError(
            f"weights file not found: {settings.weights} (seq.weights)",
            "expected random, or a file in fair-esm's layout",
            "see: esmgn show esm1",
        )
    if settings.checkpoint is not None:
        return fetch(settings.checkpoint)
    if settings.published_at is None:
        source = ("choose a published model such as esm1b_650m (see: esmgn list seq)",)
    else:
        source = (f"no checksum of the published file is known, fetch it: {settings.published_at}",)
    raise WeightsError(
        "esm1 has no pretrained weights it could download and verify",
        *source,
        "and name the file: --set seq.weights=PATH",
        "or start from random weights: --set seq.weights=random",
    )
