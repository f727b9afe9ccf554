"""Basis functions of distances and angles, from spherical Bessel functions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esmgn_pyg.library import dimenet


class SphericalBasis(nn.Module):
    r"""Basis of num_spherical x num_radial functions of the distance and angle of a triplet of residues.

    .. math::
        u(x)\, \frac{\sqrt{2}}{|j_{l+1}(z_{ln})|}\, j_l(z_{ln} x)\,
        \sqrt{\frac{2l + 1}{4\pi}}\, P_l(\cos\alpha), \quad x = d / \mathrm{cutoff}

    with z_ln the n-th zero of the spherical Bessel function j_l, Legendre polynomials P_l and an
    envelope u. It is equal to torch-geometric's ``SphericalBasisLayer``, whose symbolic algebra takes half a
    minute to build, and which loses digits at short distances.

    Source: Gasteiger et al. 2020 (arXiv 2003.03123), equation 12.
    """

    zeros: Tensor
    scale: Tensor

    def __init__(self, num_spherical: int, num_radial: int, *, cutoff: float, envelope_exponent: int) -> None:
        super().__init__()
        from scipy.special import spherical_jn

        self.cutoff = cutoff
        self.envelope = dimenet.Envelope(envelope_exponent)
        zeros = bessel_zeros(num_spherical, num_radial)
        at_zeros = spherical_jn(1 + np.arange(num_spherical)[:, None], zeros)
        self.register_buffer("zeros", torch.as_tensor(zeros), persistent=False)
        self.register_buffer("scale", torch.as_tensor(math.sqrt(2) / np.abs(at_zeros)), persistent=False)

    def forward(self, distance: Tensor, angle: Tensor, edge: Tensor) -> Tensor:
        """Basis functions of each triplet.

        Args:
            distance: float32 [E], in angstrom; at least a hundredth of the cutoff.
            angle: float32 [T], in radians.
            edge: int64 [T], the edge of each triplet whose length is used.

        Returns:
            float32 [T, num_spherical * num_radial].
        """
        num_spherical = len(self.zeros)
        x = distance / self.cutoff
        # Upward recurrence loses digits at small arguments, so it runs in float64.
        arguments = x.double().view(-1, 1, 1) * self.zeros.double()
        radial = torch.stack(
            [spherical_bessel(arguments[:, n], num_spherical)[n] for n in range(num_spherical)], dim=1
        )
        faded: Tensor = (radial * self.scale).to(distance.dtype) * self.envelope(x).view(-1, 1, 1)
        order = torch.arange(num_spherical, device=angle.device)
        harmonic = legendre(angle.cos(), num_spherical) * ((2 * order + 1) / (4 * math.pi)).sqrt()
        return (faded[edge] * harmonic.unsqueeze(2)).flatten(1)


def bessel_zeros(num_orders: int, num_zeros: int) -> NDArray[np.float64]:
    """The first positive zeros of the spherical Bessel functions of order 0, 1, ...

    Returns:
        float64 [num_orders, num_zeros].
    """
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    # There is exactly one zero of the next order between two consecutive zeros.
    rows = [math.pi * np.arange(1, num_zeros + num_orders)]
    for order in range(1, num_orders):
        between = [brentq(lambda x, n: spherical_jn(n, x), *ends, args=order) for ends in pairwise(rows[-1])]
        rows.append(np.array(between))
    return np.stack([row[:num_zeros] for row in rows])


def spherical_bessel(x: Tensor, num_orders: int) -> list[Tensor]:
    """Spherical Bessel functions of the first kind of order 0, 1, ... at ``x`` > 0, shaped like x."""
    values = [x.sin() / x, x.sin() / x.square() - x.cos() / x]
    for order in range(1, num_orders - 1):
        values.append((2 * order + 1) / x * values[order] - values[order - 1])
    return values[:num_orders]


def legendre(x: Tensor, num_orders: int) -> Tensor:
    """Legendre polynomials of order 0, 1, ... at ``x`` [T], float [T, num_orders]."""
    values = [torch.ones_like(x), x]
    for order in range(1, num_orders - 1):
        values.append(((2 * order + 1) * x * values[order] - order * values[order - 1]) / (order + 1))
    return torch.stack(values[:num_orders], dim=1)
