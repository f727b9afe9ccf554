"""Find the repeated blocks of an encoder, and recompute their activations."""

from __future__ import annotations

from torch import nn

from esmgn_core.errors import RunError
from esmgn_core.protocols import Recomputes


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The members of the longest ``ModuleList`` in ``module``, in order; empty without a list.

    In a transformer these are the layers, from the embedding up.
    """
    lists = [list(child) for child in module.modules() if isinstance(child, nn.ModuleList)]
    return max(lists, key=len, default=[])


def recompute_activations(encoder: nn.Module) -> None:
    """Recompute blocks in the backward pass, in every module that supports it.

    Raises:
        RunError: no module has an attribute ``recompute``.
    """
    modules = [child for child in encoder.modules() if isinstance(child, Recomputes)]
    if not modules:
        raise RunError(
            "neither encoder can recompute its activations (train.activation_checkpointing)",
            "set train.activation_checkpointing=false, or choose an encoder with an attribute recompute",
        )
    for module in modules:
        module.recompute = True
