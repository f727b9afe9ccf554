"""The sequence encoder ``esm1``: ESM-1b and ESM-1v."""

from pathlib import Path
from typing import NoReturn

from pydantic import Field

from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import RunError, WeightsError
from esmgn_esm2.checkpoint import Size
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1_model import LearnedPositionTransformer, load_model
from esmgn_esm2.tokens import PackedTokens


class ESM1(ESM2):
    """ESM-1b or ESM-1v: representations of residues from one or more layers.

    A sequence has at most 1,022 residues; a longer one is an error and is never cut. The representation of
    a protein does not depend on the other proteins of the batch.

    Attributes:
        output_dim: width of the representation, ``embed_dim`` times the number of ``layers``.
        joins_chains: True if all chains of a protein form one sequence.
        weights_sha256: SHA-256 of the loaded file; ``None`` for random weights.

    Raises:
        WeightsError: the weights cannot be read, or do not fit.

    Source: Rives et al. 2021 (doi 10.1073/pnas.2016239118) and Meier et al. 2021 (ESM-1v).
    """

    class Settings(ESM2.Settings):
        """Settings of ``esm1``. Presets such as ``esm1b_650m`` and ``esm1v_650m_1`` are published models."""

        num_layers: int = Field(33, ge=1)
        """Number of transformer blocks."""
        embed_dim: int = Field(1280, ge=2)
        """Width of the representation."""
        published_at: str | None = None
        """Address of the published file, set by presets. It is not downloaded automatically, because its
        checksum is unknown: download it, and set ``weights`` to its path."""

    settings: Settings
    model: LearnedPositionTransformer

    def _random(self, size: Size) -> LearnedPositionTransformer:
        return LearnedPositionTransformer(**size._asdict(), lm_head=self.settings.lm_head)

    def _loaded(self, path: Path, size: Size) -> LearnedPositionTransformer:
        return load_model(path, size, lm_head=self.settings.lm_head)

    def _without_checkpoint(self) -> tuple[str, ...]:
        address = self.settings.published_at
        return (
            "esm1 does not download weights, because their checksums are unknown",
            "choose a published model such as esm1b_650m (see: esmgn list seq)"
            if address is None
            else f"download the published file: {address}",
            "and set its path: --set seq.weights=PATH",
        )

    def save_hugging_face(self, folder: Path) -> NoReturn:
        """Refuse: folders of transformers are written for ESM-2 only.

        Raises:
            WeightsError: always.
        """
        raise WeightsError(f"esm1 cannot be written for transformers ({folder}), only esm2")

    def _check_lengths(self, batch: ProteinBatch, tokens: PackedTokens) -> None:
        if tokens.pack.longest > self.model.max_tokens:
            _refuse(batch, tokens, self.model.max_tokens)


def _refuse(batch: ProteinBatch, tokens: PackedTokens, max_tokens: int) -> NoReturn:
    """Raise an error that names the protein with the longest sequence."""
    others = 3 if len(tokens.added_row) else 2
    lengths = tokens.lengths[tokens.sequence_index[tokens.residue_row]] - others
    residue = int(lengths.argmax())
    name = batch.names[int(batch.protein_index[residue])]
    raise RunError(
        f"protein '{name}' has a sequence of {int(lengths[residue])} residues: "
        f"esm1 has a limit of {max_tokens - others}",
        "encode it in windows: --set length.policy=window (or cut it: length.policy=truncate), or",
        "choose an encoder without a limit, such as esm2_650m (see: esmgn list seq)",
    )
