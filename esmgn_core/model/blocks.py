"""The repeated blocks of an encoder, for what treats them one by one."""

from __future__ import annotations

from torch import nn

from esmgn_core.errors import RunError
from esmgn_core.protocols import Recomputes


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The members of the longest ``ModuleList`` inside ``module``, in order; none if it has none.

    In a transformer these are its layers, from the embedding up.
    """
    lists = [list(child) for child in module.modules() if isinstance(child, nn.ModuleList)]
    return max(lists, key=len, default=[])


def recompute_activations(encoder: nn.Module) -> None:
    """Ask every part that can to compute its blocks again in the backward pass.

    Raises:
        RunError: no part can: none has an attribute ``recompute``.
    """
    able = [child for child in encoder.modules() if isinstance(child, Recomputes)]
    if not able:
        raise RunError(
            "neither encoder can compute blocks again (train.activation_checkpointing)",
            "leave it out, or choose an encoder with an attribute recompute",
        )
    for child in able:
        child.recompute = True
