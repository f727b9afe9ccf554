"""Device, precision and repeatability of computations on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from esmgn_core.errors import RunError


def pick_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """The device for the setting ``train.device``.

    Raises:
        RunError: the device is unknown or not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(
            f"unknown device '{name}' (train.device)", "expected auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda":
        index = device.index if device.index is not None else (local_rank or 0)
        if index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise RunError(
                f"device cuda:{index} (train.device) is not available: this machine has {count} CUDA devices",
                "use --set train.device=cpu, or start no more processes than there are GPUs",
            )
        return torch.device("cuda", index)
    if device.type != "cpu":
        raise RunError(
            f"device '{name}' (train.device) is not supported", "expected auto, cpu, cuda or cuda:N"
        )
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for the setting ``train.precision``; ``None`` for float32.

    Raises:
        RunError: the device does not support it.
    """
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise RunError(
            "this CUDA device does not support bf16 (train.precision)", "use --set train.precision=fp16"
        )
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


@contextmanager
def numerics(device: torch.device, *, precision: str = "auto") -> Iterator[None]:
    """Set the numerical mode of a run inside the block.

    CPU: deterministic algorithms, so that a run repeats bit for bit. CUDA: float32 matrix products use TF32
    unless ``precision`` is ``fp32``, and sums may be taken in any order, which is faster.
    """
    if device.type == "cuda":
        matmul = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # Deterministic mode would also fill every new tensor with NaN, which costs time and no code here reads.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
