"""Scalars and vectors side by side: the features of GVP, their normalisation and their dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional

_MIN_SQUARED_LENGTH = 1e-8


class Dims(NamedTuple):
    """Numbers of scalar and of vector channels."""

    scalars: int
    vectors: int


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of M residues or edges.

    Attributes:
        scalars: float [M, s], unchanged when the protein turns.
        vectors: float [M, 3, v], turning with the protein; channels come last so that a linear map
            of channels is a plain matrix product.
    """

    scalars: Tensor
    vectors: Tensor

    def __add__(self, other: Self) -> Features:
        return Features(self.scalars + other.scalars, self.vectors + other.vectors)


def squared_lengths(vectors: Tensor) -> Tensor:
    """float32 [M, v] from [M, 3, v]: squared lengths, at least 1e-8, so that roots have gradients."""
    return vectors.float().square().sum(dim=-2).clamp(min=_MIN_SQUARED_LENGTH)


def lengths(vectors: Tensor) -> Tensor:
    """float32 [M, v] from [M, 3, v]: lengths, at least 1e-4."""
    return squared_lengths(vectors).sqrt()


class FeatureNorm(nn.Module):
    r"""Layer normalisation of scalars; vectors are divided by the root mean square of their lengths.

    .. math::
        V \leftarrow V \Big/ \sqrt{\tfrac{1}{v} \sum_c \lVert V_c \rVert^2}

    Source: Jing et al. 2021 (arXiv 2009.01411), section 3.
    """

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.scalars = nn.LayerNorm(dims.scalars)

    def forward(self, features: Features) -> Features:
        """Normalise each residue or edge by itself."""
        scale = squared_lengths(features.vectors).mean(dim=-1).sqrt()
        return Features(self.scalars(features.scalars), features.vectors / scale[:, None, None])


class FeatureDropout(nn.Module):
    """Dropout of single scalars and of whole vectors.

    Dropping components of a vector would not turn with the protein.

    Source: Jing et al. 2021 (arXiv 2009.01411), section 3.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Features) -> Features:
        """Drop in training; the identity in evaluation."""
        if not self.training or not self.rate:
            return features
        vectors = features.vectors
        kept = functional.dropout(vectors.new_ones(vectors.shape[0], 1, vectors.shape[2]), self.rate)
        return Features(functional.dropout(features.scalars, self.rate), vectors * kept)
