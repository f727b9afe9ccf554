"""Low-rank adapters (LoRA) of the linear layers of a sequence encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from esmgn_core.errors import RunError, SettingsError
from esmgn_core.model.blocks import repeated_blocks
from esmgn_core.model.joint import JointEncoder
from esmgn_core.settings import OptimTable

_ADAPTER = "default"


def add_adapters(encoder: JointEncoder, settings: OptimTable) -> None:
    """Add adapters to the blocks of the sequence encoder and freeze its other weights.

    A layer computes W x + (alpha / rank) B A x. B starts at zero, so the initial outputs do not change.

    Raises:
        RunError: ``peft`` is not installed, or the encoder has no blocks with linear layers.
        SettingsError: the sequence encoder is frozen.

    Source: Hu et al. 2021 (arXiv 2106.09685).
    """
    if encoder.sequence_frozen:
        raise SettingsError(
            "optim.lora_rank adapts the sequence encoder, but optim.seq_lr_scale = 0 freezes it",
            "train the adapters: --set optim.seq_lr_scale=1",
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RunError(
            "optim.lora_rank needs the package peft", "install it: pip install 'esmgn[lora]'"
        ) from error
    sequence = encoder.get_submodule("sequence")
    inside = {id(part) for block in repeated_blocks(sequence) for part in block.modules()}
    layers = [
        name for name, part in sequence.named_modules() if isinstance(part, nn.Linear) and id(part) in inside
    ]
    if not layers:
        raise RunError("the sequence encoder has no blocks with linear layers (optim.lora_rank)")
    config = LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=layers)
    inject_adapter_in_model(config, sequence, adapter_name=_ADAPTER)


def merge_adapters(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The module's state with all adapters added to their weights, under the names without adapters.

    Args:
        module: a module with or without adapters.
        state: its state; by default that of ``module``.
    """
    state = dict(module.state_dict() if state is None else state)
    for name, part in module.named_modules():
        if not hasattr(part, "lora_A"):
            continue
        down, up = (state.pop(f"{name}.lora_{side}.{_ADAPTER}.weight") for side in "AB")
        for own in [key for key in state if key.startswith(f"{name}.base_layer.")]:
            state[own.replace(".base_layer.", ".")] = state.pop(own)
        weight = state[f"{name}.weight"]
        state[f"{name}.weight"] = weight + part.scaling[_ADAPTER] * (up @ down).to(weight.dtype)
    return state


def split_adapters(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reverse :func:`merge_adapters`: rename the weights to those of ``module`` and add zero adapters."""
    state = dict(tensors)
    for name, part in module.named_modules():
        if not hasattr(part, "lora_A"):
            continue
        for own in [key for key in state if key.startswith(f"{name}.")]:
            state[own.replace(f"{name}.", f"{name}.base_layer.", 1)] = state.pop(own)
        adapters = {key: value for key, value in part.state_dict().items() if key.startswith("lora_")}
        state |= {f"{name}.{key}": torch.zeros(value.shape) for key, value in adapters.items()}
    return state
