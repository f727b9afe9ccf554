"""Settings that several encoders share."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from esmgn_core.readout import Readout
from esmgn_core.settings import ComponentSettings


class EncoderSettings(ComponentSettings):
    """Settings of every encoder."""

    hidden_dim: int = Field(512, ge=1)
    """Width of every layer."""
    num_layers: int = Field(6, ge=1)
    """Number of layers."""
    readout: Readout = "sum"
    """Pooling of residues into a protein."""


class LayerSettings(EncoderSettings):
    """Settings of encoders whose layers all give residue representations."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each layer's update that is dropped in training."""
    concat_hidden: bool = True
    """Concatenate all layers; else the last one is the output."""


class NormedSettings(LayerSettings):
    """Settings of encoders that normalise every layer."""

    norm: Literal["layer", "batch", "none"] = "layer"
    """How each layer's update is normalised: over the channels of a residue, over the residues of
    the batch, or not at all."""


class AttentionSettings(NormedSettings):
    """Settings of encoders with attention."""

    heads: int = Field(8, ge=1)
    """Attention heads; they share ``hidden_dim`` evenly."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of attention weights dropped in training."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_dim % self.heads:
            raise ValueError("hidden_dim must be a multiple of heads")
        return self

    def of_attention(self) -> dict[str, Any]:
        """Arguments of torch-geometric's convolutions with attention, ``hidden_dim`` to ``hidden_dim``."""
        return {
            "in_channels": self.hidden_dim,
            "out_channels": self.hidden_dim // self.heads,
            "heads": self.heads,
            "dropout": self.attention_dropout,
        }


class DistanceSettings(ComponentSettings):
    """Settings of encoders that read CA-CA distances as Gaussian bases."""

    num_distance_bases: int = Field(16, ge=2)
    """Gaussian basis functions of the CA-CA distance."""
    max_distance: float = Field(20.0, gt=0)
    """Centre of the last basis function, in angstrom."""
