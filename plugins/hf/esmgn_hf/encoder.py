"""The sequence encoder ``hf``: a protein language model, run by transformers."""

from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.errors import RunError, SettingsError
from esmgn_core.settings import ComponentSettings
from esmgn_hf.loading import (
    NOT_READ,
    Source,
    build,
    load,
    model_class,
    read_config,
    read_tokenizer,
    weights_digest,
)
from esmgn_hf.tokens import Rows, Tokens, padded_rows, tokens_of


class Parts(NamedTuple):
    """A model of transformers: encoder and head together, its tokens, and the digest of its weights."""

    model: Any
    tokens: Tokens
    sha256: str | None


class SharedSettings(ComponentSettings):
    """Settings of all models that transformers runs."""

    originals = MappingProxyType({"chains": "concatenated"})

    chains: Literal["separate", "concatenated"] = "separate"
    """``separate``: each chain is a sequence. ``concatenated``: the chains of a protein are one sequence
    without a linker."""
    layers: tuple[int, ...] = Field((-1,), min_length=1)
    """Blocks whose outputs are returned, concatenated if several: 1 is the first block, -1 the last, 0
    the embedding. The output of the last block is normalised if the model does so."""
    lm_head: bool = False
    """Load the language-model head, which predicts the amino acid at each residue."""
    readout: Readout = "mean"
    """Pooling of residues into a protein."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping its activations. This saves memory
    and takes about a third more time."""


class HuggingFaceEncoder(nn.Module):
    """A protein language model of transformers, loaded without code of its repository.

    Sequences of similar length are padded and encoded together. Padding is masked, so that the
    representation of a protein does not depend on the other proteins of the batch.

    Attributes:
        output_dim: width of the representation, the model's width times the number of ``layers``.
        joins_chains: True if all chains of a protein form one sequence.
        weights_sha256: SHA-256 of the loaded weights; ``None`` for random weights.

    Raises:
        SettingsError: ``model`` is not set, or the model has no such layer or no language-model head.
        WeightsError: the model cannot be downloaded or read, or is not a protein language model.
    """

    class Settings(SharedSettings):
        """Settings of ``hf``. Presets such as ``esmc_300m`` are published models."""

        model: str = ""
        """Repository on the Hugging Face Hub, ``ORG/NAME``, or a folder in that format with ``config.json``,
        weights and tokenizer."""
        revision: str | None = None
        """Commit, tag or branch of the repository. Not set for its main branch; presets set a commit."""
        weights: Literal["pretrained", "random"] = "pretrained"
        """``pretrained`` (those of the model) or ``random``, with the sizes in its ``config.json``."""

        @field_validator("model")
        @classmethod
        def _absolute_folder(cls, model: str) -> str:
            """A folder as an absolute path, so that a run file does not depend on the working folder."""
            path = Path(model).expanduser()
            return str(path.absolute()) if model and (path.is_dir() or model[0] in "~/.") else model

    residue_token: Tensor

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.joins_chains: bool = settings.chains == "concatenated"
        whole, self.tokens, self.weights_sha256 = self._parts()
        self.register_buffer("residue_token", torch.tensor(self.tokens.residue), persistent=False)
        self._saved = (whole,)  # in a tuple, because with a head its parts are the modules
        self.model: nn.Module = whole
        self.head: nn.Module | None = None
        if settings.lm_head:
            self.model, self.head = _trunk_and_head(whole)
        self.config: Any = whole.config
        blocks = self.config.num_hidden_layers
        self.output_layers = _output_layers(settings.layers, blocks)
        self.output_dim: int = self.config.hidden_size * len(settings.layers)
        _freeze_unused(self.model, blocks, max(self.output_layers))
        if self.head is not None:
            trained = set(self.model.parameters())  # the embedding is tied to the head in most models
            for parameter in set(self.head.parameters()) - trained:
                parameter.requires_grad = False
        self._recompute = False
        if settings.gradient_checkpointing:
            self.recompute = True

    def _parts(self) -> Parts:
        settings = self.settings
        if not settings.model:
            raise SettingsError(
                "the sequence encoder hf needs a model",
                "name one: --set seq.model=ORG/NAME of the Hugging Face Hub, or a folder",
                "or choose a published model such as esmc_300m: esmgn list seq",
            )
        source = Source(settings.model, settings.revision)
        config = read_config(source)
        kind = model_class(config, source, lm_head=settings.lm_head)
        tokens = tokens_of(read_tokenizer(source), str(source))
        if settings.weights == "random":
            return Parts(build(kind, config), tokens, None)
        return Parts(load(kind, source, config), tokens, weights_digest(source))

    @property
    def recompute(self) -> bool:
        """True if blocks are computed again in the backward pass."""
        return self._recompute

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        model: Any = self.model
        self._recompute = recompute
        if recompute:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.activation_checkpointing_disable()

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Representations of the chosen layers.

        Args:
            batch: N residues packed from B proteins; only residue types and chains are read.

        Returns:
            float [N, output_dim] per residue, without tokens of the ends; float [B, output_dim] per protein.

        Raises:
            RunError: a sequence is longer than the model's table of positions.
        """
        return Encoding.from_residues(self._residues(batch, self.output_layers), batch, self.settings.readout)

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float [N, 20] of the amino acids at each residue, from the language-model head.

        Raises:
            SettingsError: the encoder was built without ``lm_head``.
        """
        if self.head is None:
            raise SettingsError("this encoder has no language-model head", "--set seq.lm_head=true")
        logits: Tensor = self.head(self._residues(batch, (self.config.num_hidden_layers,)))
        return logits[:, self.residue_token[: len(AMINO_ACIDS)]]

    def save_hugging_face(self, folder: Path) -> list[str]:
        """Write the model and its tokenizer as a folder of transformers.

        Args:
            folder: an existing folder.

        Returns:
            A note if the language-model head is left out.

        Raises:
            WeightsError: there is no tokenizer.
        """
        self._saved[0].save_pretrained(folder)
        self._save_tokenizer(folder)
        return [] if self.head else ["language-model head: none, the encoder was built without it"]

    def _save_tokenizer(self, folder: Path) -> None:
        read_tokenizer(Source(self.settings.model, self.settings.revision)).save_pretrained(folder)

    def _residues(self, batch: ProteinBatch, layers: tuple[int, ...]) -> Tensor:
        self._check_lengths(batch)
        hiddens, residues = [], []
        for rows in padded_rows(batch, self.tokens, self.residue_token, join_chains=self.joins_chains):
            hiddens.append(self._hidden(rows, layers))
            residues.append(rows.residue)
        if not hiddens:
            width = self.config.hidden_size * len(layers)
            return self.residue_token.new_zeros((0, width), dtype=torch.float32)
        order = torch.cat(residues)
        row = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        return torch.cat(hiddens)[row]

    def _hidden(self, rows: Rows, layers: tuple[int, ...]) -> Tensor:
        """Representations of the residues of the rows, [M, width x layers]."""
        last = self.config.num_hidden_layers
        inner = any(layer < last for layer in layers)
        output = self.model(rows.token, attention_mask=rows.mask, output_hidden_states=inner)
        hiddens = [
            output.last_hidden_state if layer == last else output.hidden_states[layer] for layer in layers
        ]
        return torch.cat([hidden[rows.is_residue] for hidden in hiddens], dim=1)

    def _check_lengths(self, batch: ProteinBatch) -> None:
        limit = _longest_sequence(self.model, self.tokens)
        ptr = batch.sequence_ptr(join_chains=self.joins_chains)
        longest = int(ptr.diff().max()) if len(ptr) > 1 else 0
        if limit is not None and longest > limit:
            name = batch.names[int(batch.protein_index[ptr[int(ptr.diff().argmax())]])]
            raise RunError(
                f"protein '{name}' has a sequence of {longest} residues: "
                f"{self.config.model_type} has a limit of {limit}",
                f"encode it in windows: --set length.policy=window --set length.max_residues={limit}",
            )


def _trunk_and_head(whole: Any) -> tuple[nn.Module, nn.Module]:
    """The encoder of a masked language model, and its head."""
    trunk = whole.base_model
    heads = [child for child in whole.children() if child is not trunk]
    if len(heads) != 1:
        raise SettingsError(
            f"the language-model head of {whole.config.model_type} is not one module",
            "leave it out: --set seq.lm_head=false",
        )
    return trunk, heads[0]


def _output_layers(layers: tuple[int, ...], num_blocks: int) -> tuple[int, ...]:
    """Numbers of the returned blocks, counted from the embedding."""
    for layer in layers:
        if not -num_blocks - 1 <= layer <= num_blocks:
            raise SettingsError(
                f"block {layer} does not exist, the model has {num_blocks} (seq.layers)",
                f"blocks: 0 for the embedding, 1 to {num_blocks}, or -1 for the last",
            )
    return tuple(layer % (num_blocks + 1) for layer in layers)


def _freeze_unused(model: nn.Module, num_blocks: int, top: int) -> None:
    """Freeze parameters that the outputs do not depend on: blocks above ``top`` and what follows them.

    Several processes would wait for their gradients.
    """
    lists = (part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == num_blocks)
    blocks = next(lists, None)
    used = {id(p) for block in (blocks or [])[:top] for p in block.parameters()}
    reached = False
    inside = {id(p) for p in blocks.parameters()} if blocks is not None else set()
    for name, parameter in model.named_parameters():
        reached = reached or id(parameter) in inside
        after = reached and id(parameter) not in inside and top < num_blocks
        idle = id(parameter) in inside and id(parameter) not in used
        if after or idle or any(f".{part}" in f".{name}" for part in NOT_READ):
            parameter.requires_grad = False


def _longest_sequence(model: nn.Module, tokens: Tokens) -> int | None:
    """Most residues of a sequence in a model with a table of positions; else ``None``."""
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            first = 0 if part.padding_idx is None else part.padding_idx + 1
            return part.num_embeddings - first - len(tokens.before) - len(tokens.after)
    return None
