"""The features of GVP (scalars and vectors), their normalisation and dropout."""

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
        scalars: float [M, s], invariant to rotations of the protein.
        vectors: float [M, 3, v], which rotate with the protein. Channels are last, so that a linear map of
            channels is a matrix product.
    """

    scalars: Tensor
    vectors: Tensor

    def __add__(self, other: Self) -> Features:
        return Features(self.scalars + other.scalars, self.vectors + other.vectors)


def squared_lengths(vectors: Tensor) -> Tensor:
    """Squared lengths, float32 [M, v], of vectors [M, 3, v].

    They are at least 1e-8, because the derivative of the square root is infinite at 0.
    """
    return vectors.float().square().sum(dim=-2).clamp(min=_MIN_SQUARED_LENGTH)


def lengths(vectors: Tensor) -> Tensor:
    """Lengths, float32 [M, v], at least 1e-4, of vectors [M, 3, v]."""
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
        """Normalise each residue or edge separately."""
        scale = squared_lengths(features.vectors).mean(dim=-1).sqrt()
        return Features(self.scalars(features.scalars), features.vectors / scale[:, None, None])


class FeatureDropout(nn.Module):
    """Dropout of single scalars and of whole vectors.

    Dropout of single components of a vector would break equivariance.

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
