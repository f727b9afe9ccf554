"""Conversion of GearNet from and to published files, which order residue types differently.

The original orders residue types as ``GASPVTCILNDQKEMHFRYW``. Columns of weights that multiply a one-hot
residue type are permuted to the order of :mod:`esmgn_core.alphabet`. GearNet-Edge multiplies the hidden
features of its first edge layer, which are as wide as a one-hot residue, by the same weights. These features
are permuted too.

Source: the original's GearNet (TorchDrug 0.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.alphabet import AMINO_ACIDS, NUM_RESIDUE_FEATURES, UNKNOWN
from esmgn_core.weights import common_length, count_blocks
from esmgn_gearnet.conv import RelationalConv

REFERENCE_ORDER = "GASPVTCILNDQKEMHFRYW"
"""The original's residue types 0-19."""

RESIDUES = [*(REFERENCE_ORDER.index(letter) for letter in AMINO_ACIDS), UNKNOWN]
"""The original's number of each of our residue types, unknown included."""

Order = tuple[str, int, list[int]]
"""Name of a tensor, a dimension, and the index in the original of each of our columns."""


class PublishedGearNet(nn.Module):
    """Mapping of the tensors of GearNet and GearNet-Edge to those of published files."""

    layers: nn.ModuleList

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The size of GearNet in a published file; ``None`` if tensors are missing."""
        num_layers = count_blocks(tensors, "batch_norms")
        hidden_dim = common_length(tensors, r"batch_norms\.\d+\.weight")
        return {"num_layers": num_layers, "hidden_dim": hidden_dim} if hidden_dim else None

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The state dict, from tensors in the original's order of residue types."""
        return _reordered(tensors, self._orders(), back=False), {}

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002 - nothing is unused
        """The tensors of a file, in the original's order of residue types."""
        return _reordered(state, self._orders(), back=True)

    def _orders(self) -> Iterator[Order]:
        first = self.layers[0]
        assert isinstance(first, RelationalConv)  # noqa: S101 - a ModuleList forgets its items' type
        if first.self_loop.in_features == NUM_RESIDUE_FEATURES:
            yield from self.residue_orders()

    def residue_orders(self) -> Iterator[Order]:
        """Tensors in the order of residue types if the input features are one-hot residue types."""
        for part in ("self_loop", "linear"):
            yield f"layers.0.{part}.weight", 1, RESIDUES


def _reordered(tensors: Mapping[str, Tensor], orders: Iterable[Order], *, back: bool) -> dict[str, Tensor]:
    """Permute residue types to our order, or ``back`` to that of the original."""
    result = dict(tensors)
    for name, dim, order in orders:
        tensor = result[name]
        index = torch.tensor(order, device=tensor.device)
        index = index.argsort() if back else index
        # A weight may have the columns of several relations side by side.
        blocks = tensor.reshape(*tensor.shape[:dim], -1, len(order), *tensor.shape[dim + 1 :])
        result[name] = blocks.index_select(dim + 1, index).flatten(dim, dim + 1)
    return result
