"""Settings shared by several encoders."""

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
    """Settings of encoders whose layers all have residue representations as output."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each layer's update dropped in training."""
    concat_hidden: bool = True
    """Return the outputs of all layers, concatenated. If false, return that of the last layer."""


class NormedSettings(LayerSettings):
    """Settings of encoders that normalise every layer."""

    norm: Literal["layer", "batch", "none"] = "layer"
    """Normalisation of each layer's update: ``layer`` over the channels of a residue, ``batch`` over the
    residues of the batch, or ``none``."""


class AttentionSettings(NormedSettings):
    """Settings of encoders with attention."""

    heads: int = Field(8, ge=1)
    """Attention heads; they must divide ``hidden_dim``."""
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
    """Settings of encoders that read CA-CA distances in Gaussian basis functions."""

    num_distance_bases: int = Field(16, ge=2)
    """Number of Gaussian basis functions of the CA-CA distance."""
    max_distance: float = Field(20.0, gt=0)
    """Centre of the last basis function, in angstrom."""
