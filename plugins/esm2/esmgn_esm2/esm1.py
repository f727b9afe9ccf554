"""The sequence encoder ``esm1``: ESM-1b and ESM-1v."""

from pathlib import Path
from typing import NoReturn

from pydantic import Field

from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import RunError
from esmgn_esm2.checkpoint import Size
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1_model import LearnedPositionTransformer, load_model
from esmgn_esm2.tokens import PackedTokens


class ESM1(ESM2):
    """ESM-1b or ESM-1v: residues to the representations of one or more layers.

    Positions end with 1,022 residues; a longer sequence is an error, never cut. A protein's
    representation does not depend on the proteins it is packed with.

    Attributes:
        output_dim: width of the representation, ``embed_dim`` times the number of layers taken.
        joins_chains: whether all chains of a protein form one sequence.
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

    def _random(self, size: Size) -> LearnedPositionTransformer:
        return LearnedPositionTransformer(**size._asdict(), lm_head=self.settings.lm_head)

    def _loaded(self, path: Path, size: Size) -> LearnedPositionTransformer:
        return load_model(path, size, lm_head=self.settings.lm_head)

    def _without_checkpoint(self) -> tuple[str, ...]:
        address = self.settings.published_at
        return (
            "esm1 has no pretrained weights it could download and verify",
            "choose a published model such as esm1b_650m (see: esmgn list seq)"
            if address is None
            else f"no checksum of the published file is known, fetch it: {address}",
            "and name the file: --set seq.weights=PATH",
        )

    def _check_lengths(self, batch: ProteinBatch, tokens: PackedTokens) -> None:
        if tokens.pack.longest > self.model.max_tokens:
            _refuse(batch, tokens, self.model.max_tokens)


def _refuse(batch: ProteinBatch, tokens: PackedTokens, max_tokens: int) -> NoReturn:
    """Name the protein with the longest sequence."""
    lengths = tokens.lengths[tokens.sequence_index[tokens.residue_row]] - 2
    residue = int(lengths.argmax())
    name = batch.names[int(batch.protein_index[residue])]
    raise RunError(
        f"protein '{name}' has a sequence of {int(lengths[residue])} residues: "
        f"esm1 has positions for {max_tokens - 2}",
        "read it in windows: --set length.policy=window (or cut it: length.policy=truncate), or",
        "choose an encoder without a limit, such as esm2_650m (see: esmgn list seq)",
    )
