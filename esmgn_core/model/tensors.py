"""Read and write the tensors of an encoder in ``.safetensors`` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmgn_core.errors import WeightsError
from esmgn_core.model.joint import JointEncoder
from esmgn_core.protocols import weights_sha256

SEQUENCE = "sequence."
"""Prefix of the sequence encoder's tensors."""


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file to the CPU.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a ``.safetensors`` file."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    # safetensors sets permissions for the owner only; restore those of the user's umask.
    path.chmod(mode)


def fill_encoder(encoder: JointEncoder, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Load tensors into the encoder by name.

    The tensors of a sequence encoder with published weights may be missing. If they are given and differ from
    the published ones, the encoder's ``weights_sha256`` is cleared, so that checkpoints include them.

    Raises:
        WeightsError: the tensors do not fit; the message lists the first differences.
    """
    expected = encoder.state_dict()
    given = any(name.startswith(SEQUENCE) for name in tensors)
    from_file = weights_sha256(encoder.sequence) is not None
    if from_file and not given:
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(SEQUENCE)}
    problems = [f"missing: {name}" for name in expected.keys() - tensors.keys()]
    problems += [f"unexpected: {name}" for name in tensors.keys() - expected.keys()]
    problems += [
        f"shape of {name}: {list(tensors[name].shape)} in the file, {list(tensor.shape)} in the model"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        more = [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
        raise WeightsError(f"{origin} does not fit the model", *sorted(problems)[:5], *more)
    if from_file and not _same_sequence(expected, tensors):
        encoder.sequence.weights_sha256 = None  # type: ignore[attr-defined]  # it has one: from_file
    encoder.load_state_dict(tensors, strict=False)


def _same_sequence(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    names = [name for name in expected if name.startswith(SEQUENCE)]
    return all(torch.equal(expected[name].cpu(), tensors[name]) for name in names)
