"""A folder that holds an encoder: a run folder, or imported weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from esmgn_core.errors import WeightsError
from esmgn_core.host.compare import encoder_changes
from esmgn_core.host.components import build_component
from esmgn_core.host.configure import Tables, component_settings, configure, read_run_file
from esmgn_core.host.registry import Registry
from esmgn_core.model.joint import JointEncoder
from esmgn_core.model.tensors import fill_encoder, load_weights
from esmgn_core.protocols import weights_sha256
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.weights import remembered_digests

ENCODER_KINDS = (Kind.SEQ, Kind.STRUCT, Kind.FUSE, Kind.GRAPH)
"""Kinds of component that an encoder consists of."""


class EncoderFolder:
    """``model.safetensors`` with an encoder's tensors, and ``config.toml`` that says what it is.

    Raises:
        WeightsError: one of the two is missing.
    """

    def __init__(self, path: Path) -> None:
        folder = RunFolder(path.expanduser().absolute())
        self.path, self.model, self.config = folder.path, folder.model, folder.config
        self._folder = folder
        for file in (self.config, self.model):
            if not file.is_file():
                raise WeightsError(f"no encoder in {path}: {file.name} is missing", *_hints(path, folder))

    def tables(self) -> Tables:
        """The tables of the run file that describe the encoder."""
        tables = read_run_file(self.config)
        return {name: tables[name] for name in (*ENCODER_KINDS, "inputs", "length") if name in tables}

    def run_config(self, registry: Registry) -> RunConfig:
        """The encoder's configuration."""
        return configure(registry, [self.tables()], [str(self.config)])

    def described(self) -> dict[str, str]:
        """Where it is, and the checksum of its tensors."""
        return {"path": str(self.path), "model_sha256": self.sha256()}

    def sha256(self) -> str:
        """SHA-256 of the file of tensors."""
        return remembered_digests(self.model).sha256

    def tensors(self, registry: Registry) -> dict[str, Tensor]:
        """All tensors of the encoder, also those that only its configuration names.

        Raises:
            WeightsError: a file is damaged, cannot be had, or is not the one the run used.
        """
        tensors = load_weights(self.model)
        if any(name.startswith("sequence.") for name in tensors):
            return tensors
        spec, component, settings = component_settings(registry, Kind.SEQ, self.run_config(registry))
        sequence = build_component(spec, component, settings)
        self._check_recorded(weights_sha256(sequence))
        return {f"sequence.{name}": tensor for name, tensor in _state(sequence).items()} | tensors

    def fill(self, encoder: JointEncoder, registry: Registry) -> None:
        """Put the tensors into an encoder of the same make.

        Raises:
            WeightsError: as :meth:`tensors`, or they do not fit; the first differences are named.
        """
        fill_encoder(encoder, self.tensors(registry), origin=str(self.model))

    def differences(self, config: RunConfig) -> list[str]:
        """What an encoder of a run of ``config`` is set to other than this one was; one sentence, or none."""
        trained = self._folder.recorded("settings")
        tables = {**self.tables(), **({} if not isinstance(trained, dict) else trained)}
        tables = {name: tables[name] for name in self.tables() if name in tables}
        text = encoder_changes(tables, config.model_dump(mode="json", exclude_none=True))
        where = f"the encoder in {self.path} was trained with other settings"
        return [f"{where}: {text}; its weights are used as they are"] if text else []

    def _check_recorded(self, sha256: str | None) -> None:
        recorded = self._folder.recorded("sequence_weights_sha256")
        if recorded and recorded != sha256:
            raise WeightsError(
                f"{self.path} was trained with other weights of the sequence encoder",
                f"sha256 is {sha256}, expected {recorded}",
                f"they are named in {self.config}, table [seq]",
            )


def _state(module: Any) -> dict[str, Tensor]:
    return module.state_dict() if isinstance(module, nn.Module) else {}


def _hints(path: Path, folder: RunFolder) -> list[str]:
    hints = [f"files of weights are imported first: esmgn weights import {path} -o DIR"] * path.is_file()
    if folder.last.is_dir():
        hints.append(f"its best encoder is not written yet; go on: esmgn run --resume {path}")
    return [*hints, "expected the folder of a run, or one made by esmgn weights import"]
