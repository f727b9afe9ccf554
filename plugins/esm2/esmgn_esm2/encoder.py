"""The sequence encoder ``esm2``."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.errors import SettingsError, WeightsError
from esmgn_core.layers import Inject, LayerSizes, LayerState
from esmgn_core.protocols import Verification
from esmgn_core.settings import ComponentSettings
from esmgn_core.weights import Checkpoint, fetch
from esmgn_esm2.attention_maps import attention_maps
from esmgn_esm2.checkpoint import Size, digest_of, fill, language_head_of, read_weights
from esmgn_esm2.contacts import ContactHead, fill_contact_head
from esmgn_esm2.golden import compare, has_logits
from esmgn_esm2.hugging_face import write_folder
from esmgn_esm2.model import Transformer
from esmgn_esm2.published import PublishedESM2
from esmgn_esm2.tokens import Chains, PackedTokens, UnknownResidue, pack_tokens, token_table


class ESM2(PublishedESM2):
    """ESM-2: representations of residues from one or more layers.

    Sequences may have any length. The representation of a protein does not depend on the other proteins of
    the batch.

    Attributes:
        output_dim: width of the representation, ``embed_dim`` times the number of ``layers``.
        joins_chains: True if all chains of a protein form one sequence.
        weights_sha256: SHA-256 of the loaded file; ``None`` for random weights.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit.

    Source: Lin et al. 2023 (doi 10.1126/science.ade2574).
    """

    class Settings(ComponentSettings):
        """Settings of ``esm2``. The presets ``esm2_8m`` to ``esm2_15b`` are the published models."""

        originals = MappingProxyType({"unknown_residue": "G", "chains": "concatenated"})

        num_layers: int = Field(6, ge=1)
        """Number of transformer blocks."""
        embed_dim: int = Field(320, ge=2)
        """Width of the representation."""
        attention_heads: int = Field(20, ge=1)
        """Attention heads of each block; ``embed_dim / attention_heads`` must be even."""
        weights: Literal["pretrained", "random"] | Path = "pretrained"
        """``pretrained`` (the preset's checkpoint), ``random``, or a path: of a file of fair-esm or
        transformers (``.pt``, ``.bin``, ``.safetensors``) with any prefix of a wrapper, of a folder of
        transformers, or of a run's ``model.safetensors``."""
        checkpoint: Checkpoint | None = None
        """Published file of ``pretrained`` weights, set by presets."""
        unknown_residue: UnknownResidue = "X"
        """Token of residues without a standard parent: unknown, X, or glycine, G, as in the original
        ESM-GearNet."""
        chains: Chains = "separate"
        """``separate``: each chain is a sequence. ``concatenated``: the chains of a protein are one sequence
        without a linker, as in the original ESM-GearNet."""
        layers: tuple[int, ...] = Field((-1,), min_length=1)
        """Blocks whose outputs are returned, concatenated if several: 1 is the first block, -1 the last, 0
        the embedding. The output of the last block is normalised."""
        lm_head: bool = False
        """Load the language-model head, which predicts the amino acid at each residue."""
        contact_head: bool = False
        """Load the contact head, which predicts pairs of residues in contact."""
        readout: Readout = "mean"
        """Pooling of residues into a protein."""
        gradient_checkpointing: bool = False
        """Recompute each block in the backward pass instead of keeping its activations. This saves memory
        and takes about a third more time."""

        @model_validator(mode="after")
        def _heads_fit(self) -> Self:
            if self.embed_dim % (2 * self.attention_heads):
                raise ValueError("embed_dim / attention_heads must be an even number")
            for layer in self.layers:
                if not -self.num_layers - 1 <= layer <= self.num_layers:
                    raise ValueError(f"layers: block {layer} does not exist, num_layers is {self.num_layers}")
            return self

        @property
        def output_layers(self) -> tuple[int, ...]:
            """Numbers of the returned blocks, counted from the embedding."""
            return tuple(layer % (self.num_layers + 1) for layer in self.layers)

    token_table: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = settings.embed_dim * len(settings.layers)
        self.joins_chains = settings.chains == "concatenated"
        self.weights_sha256: str | None = None
        self.register_buffer("token_table", token_table(settings.unknown_residue), persistent=False)
        size = Size(settings.num_layers, settings.embed_dim, settings.attention_heads)
        if settings.weights == "random":
            self.model = self._random(size)
        else:
            path = self._weights_path()
            self.model = self._loaded(path, size)
            self.weights_sha256 = digest_of(path)
        self.contact_head: ContactHead | None = None
        if settings.contact_head:
            self.contact_head = ContactHead(settings.num_layers * settings.attention_heads)
            if settings.weights != "random":
                fill_contact_head(self.contact_head, path)
        self.model.recompute = settings.gradient_checkpointing
        self._freeze_blocks_not_run()

    def _random(self, size: Size) -> Transformer:
        return Transformer(**size._asdict(), lm_head=self.settings.lm_head)

    def _loaded(self, path: Path, size: Size) -> Transformer:
        # On the meta device nothing is allocated or initialised: the file's tensors become the parameters.
        with torch.device("meta"):
            model = Transformer(**size._asdict(), lm_head=self.settings.lm_head)
        fill(model, read_weights(path), size)
        return model

    def _weights_path(self) -> Path:
        weights = self.settings.weights
        if isinstance(weights, Path):
            if weights.exists():
                return weights
            raise WeightsError(
                f"weights file not found: {weights} (seq.weights)",
                "expected pretrained, random, or a file or folder of fair-esm or transformers",
                "see: esmgn list seq",
            )
        if self.settings.checkpoint is None:
            message, *hints = self._without_checkpoint()
            raise WeightsError(message, *hints, "or start from random weights: --set seq.weights=random")
        return fetch(self.settings.checkpoint)

    def _without_checkpoint(self) -> tuple[str, ...]:
        """Lines of the error message: why there are no pretrained weights, and what to do."""
        return (
            "esm2 without a preset has no pretrained weights",
            "choose a published model such as esm2_650m (see: esmgn list seq)",
            "or a file of weights: --set seq.weights=PATH",
        )

    def _freeze_blocks_not_run(self) -> None:
        top = max(self.settings.output_layers)
        idle = [*self.model.layers[top:]]
        if self.model.lm_head is not None:
            idle.append(self.model.lm_head)
        if self.settings.num_layers not in self.settings.output_layers:
            idle.append(self.model.emb_layer_norm_after)
        for module in idle:
            module.requires_grad_(requires_grad=False)

    @classmethod
    def verify(cls, settings: Settings, recorded: Path) -> Verification:
        """Compare the outputs of weights with recorded outputs; see :func:`esmgn_esm2.golden.compare`."""
        if has_logits(recorded):
            settings = settings.model_copy(update={"lm_head": True})
        agreement = compare(cls(settings), recorded)
        text = (
            f"{agreement.num_residues} residues: relative difference {agreement.relative_difference:.4f}, "
            f"smallest cosine {agreement.worst_cosine:.4f}"
        )
        if agreement.logits_difference is not None:
            text += f"; relative difference of logits {agreement.logits_difference:.4f}"
        return Verification(agreement.within_bfloat16(), text)

    def save_hugging_face(self, folder: Path) -> list[str]:
        """Write the model as a folder of transformers.

        Heads that the encoder does not use are copied from the weights it was built with.

        Args:
            folder: an existing folder.

        Returns:
            A line for each head: where it is from, or that there is none.
        """
        settings, state = self.settings, self.model.state_dict()
        path = None if settings.weights == "random" else self._weights_path()
        notes = []
        if self.model.lm_head is None:
            found = language_head_of(path) if path else {}
            state |= found
            notes.append(f"language-model head: {f'from {path}' if found else 'none'}")
        contacts = self.contact_head
        if contacts is None and path:
            contacts = ContactHead(settings.num_layers * settings.attention_heads)
            try:
                fill_contact_head(contacts, path)
                notes.append(f"contact head: from {path}")
            except WeightsError:
                contacts = None
        if contacts is None:
            notes.append("contact head: none")
        else:
            state |= {f"contact_head.{name}": tensor for name, tensor in contacts.state_dict().items()}
        write_folder(folder, Size(settings.num_layers, settings.embed_dim, settings.attention_heads), state)
        return notes

    def _check_lengths(self, batch: ProteinBatch, tokens: PackedTokens) -> None:
        """Do nothing: ESM-2 has no limit."""

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Representations of the chosen layers; those of the last layer are normalised.

        Args:
            batch: N residues packed from B proteins; only residue types and chains are read.

        Returns:
            float [N, output_dim] per residue, without ``<cls>`` and ``<eos>``; float
            [B, output_dim] per protein.
        """
        tokens = self._tokens(batch)
        return self._encoding(batch, tokens.residue_row, self.model(tokens, self.settings.output_layers))

    def layer_sizes(self) -> LayerSizes:
        """Number of blocks up to the last one of ``layers``, and their width."""
        return LayerSizes(max(self.settings.output_layers), self.settings.embed_dim)

    def embed(self, batch: ProteinBatch, tokens: Tensor | None = None) -> LayerState:
        """The state before the first block.

        Args:
            batch: N residues packed from B proteins.
            tokens: float [B, D], a row that every sequence of the protein has in addition, directly before
                ``<eos>``; ``None`` for none.
        """
        packed = self._tokens(batch, added=tokens is not None)
        hidden = self.model.embed(packed)
        residue_of_row = torch.zeros_like(packed.token).index_copy(
            0, packed.residue_row, torch.arange(batch.num_residues, device=packed.token.device)
        )
        state = LayerState(
            hidden,
            packed.residue_row,
            packed.added_row,
            batch.protein_index[residue_of_row[packed.added_row - 1]],
            context=(batch, packed.pack, self.model.rotary(packed, hidden.dtype)),
        )
        if tokens is not None:
            state = state.with_tokens(tokens)
        return self._kept(0, state)

    def block(self, number: int, state: LayerState, inject: Inject | None = None) -> LayerState:
        """Run the block ``number``, from 1, with additions to its queries, keys and values."""
        _, pack, rotary = state.context
        hidden = self.model.block(number, state.hidden, rotary, pack, inject)
        return self._kept(number, replace(state, hidden=hidden))

    def finish(self, state: LayerState) -> Encoding:
        """Representations of the chosen layers, without added rows; see :meth:`forward`."""
        batch = state.context[0]
        hiddens = dict(state.kept)
        last = self.settings.num_layers
        if last in hiddens:
            hiddens[last] = self.model.emb_layer_norm_after(hiddens[last])
        return self._encoding(batch, state.residue_row, hiddens)

    def _kept(self, number: int, state: LayerState) -> LayerState:
        if number not in self.settings.output_layers:
            return state
        return replace(state, kept={**state.kept, number: state.hidden})

    def _encoding(self, batch: ProteinBatch, rows: Tensor, hiddens: Mapping[int, Tensor]) -> Encoding:
        residue = torch.cat([hiddens[layer][rows] for layer in self.settings.output_layers], dim=1)
        return Encoding.from_residues(residue, batch, self.settings.readout)

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits of the 20 amino acids at each residue, from the language-model head.

        Args:
            batch: N residues packed from B proteins; a masked residue (type ``MASKED``) is predicted
                from the others.

        Returns:
            float [N, 20], in the order of :data:`esmgn_core.alphabet.AMINO_ACIDS`.

        Raises:
            SettingsError: the encoder was built without ``lm_head``.
        """
        if self.model.lm_head is None:
            raise SettingsError("this encoder has no language-model head", "--set seq.lm_head=true")
        tokens = self._tokens(batch)
        last = self.settings.num_layers
        hidden = self.model(tokens, [last])[last][tokens.residue_row]
        amino_acids = self.token_table[: len(AMINO_ACIDS)]
        logits: Tensor = self.model.lm_head(hidden, self.model.embed_tokens.weight, amino_acids)
        return logits

    def attention_maps(self, batch: ProteinBatch) -> list[Tensor]:
        """Attention weights of every block; see :func:`esmgn_esm2.attention_maps.attention_maps`."""
        return attention_maps(self.model, self._tokens(batch), batch)

    @torch.no_grad()
    def contacts(self, batch: ProteinBatch) -> list[Tensor]:
        """Probabilities of contacts between residues, see :class:`esmgn_esm2.contacts.ContactHead`.

        Returns:
            For each protein of L residues float [L, L]; NaN between residues of different sequences.

        Raises:
            SettingsError: the encoder was built without ``contact_head``.
        """
        if self.contact_head is None:
            raise SettingsError("this encoder has no contact head", "--set seq.contact_head=true")
        ptr = batch.sequence_ptr(join_chains=self.joins_chains).tolist()
        found = []
        for first, maps in zip(batch.ptr.tolist(), self.attention_maps(batch), strict=False):
            length = maps.shape[-1]
            contacts = maps.new_full((length, length), torch.nan)
            for start, end in pairwise(place - first for place in ptr if first <= place <= first + length):
                contacts[start:end, start:end] = self.contact_head(maps[..., start:end, start:end])
            found.append(contacts)
        return found

    def _tokens(self, batch: ProteinBatch, *, added: bool = False) -> PackedTokens:
        tokens = pack_tokens(batch, self.token_table, self.settings.chains, added=added)
        self._check_lengths(batch, tokens)
        return tokens
