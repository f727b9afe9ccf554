"""Folders with an encoder: run folders and imported weights."""

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
    """An encoder on disk: its tensors in ``model.safetensors``, its configuration in ``config.toml``.

    Raises:
        WeightsError: one of the two files is missing.
    """

    def __init__(self, path: Path) -> None:
        self.run = RunFolder(path.expanduser().absolute())
        self.path, self.model, self.config = self.run.path, self.run.model, self.run.config
        for file in (self.config, self.model):
            if not file.is_file():
                raise WeightsError(f"no encoder in {path}: {file.name} is missing", *_hints(path, self.run))

    def tables(self) -> Tables:
        """The tables of the run file that describe the encoder."""
        tables = read_run_file(self.config)
        return {name: tables[name] for name in (*ENCODER_KINDS, "inputs", "length") if name in tables}

    def run_config(self, registry: Registry) -> RunConfig:
        """The encoder's configuration."""
        return configure(registry, [self.tables()], [str(self.config)])

    def described(self) -> dict[str, str]:
        """Path of the folder and checksum of the tensors, as recorded by a run that starts from them."""
        return {"path": str(self.path), "model_sha256": self.sha256()}

    def sha256(self) -> str:
        """SHA-256 of the file of tensors."""
        return remembered_digests(self.model).sha256

    def tensors(self, registry: Registry) -> dict[str, Tensor]:
        """All tensors of the encoder, including published weights that its configuration refers to.

        Raises:
            WeightsError: a file is damaged, is not available, or differs from the one the run used.
        """
        tensors = load_weights(self.model)
        config = self.run_config(registry)
        if config.seq is None or any(name.startswith("sequence.") for name in tensors):
            return tensors
        spec, component, settings = component_settings(registry, Kind.SEQ, config)
        sequence = build_component(spec, component, settings)
        self._check_recorded(weights_sha256(sequence))
        return {f"sequence.{name}": tensor for name, tensor in _state(sequence).items()} | tensors

    def fill(self, encoder: JointEncoder, registry: Registry) -> None:
        """Load the tensors into an encoder.

        Raises:
            WeightsError: as :meth:`tensors`, or the tensors do not fit the encoder.
        """
        fill_encoder(encoder, self.tensors(registry), origin=str(self.model))

    def differences(self, config: RunConfig) -> list[str]:
        """A notice if ``config`` has other settings of the encoder than its training; else an empty list."""
        trained = self.run.recorded("settings")
        tables = {**self.tables(), **({} if not isinstance(trained, dict) else trained)}
        tables = {name: tables[name] for name in self.tables() if name in tables}
        text = encoder_changes(tables, config.model_dump(mode="json", exclude_none=True))
        where = f"the encoder in {self.path} was trained with other settings"
        return [f"{where}: {text}; its weights are used unchanged"] if text else []

    def _check_recorded(self, sha256: str | None) -> None:
        recorded = self.run.recorded("sequence_weights_sha256")
        if recorded and recorded != sha256:
            raise WeightsError(
                f"{self.path} was trained with other weights of the sequence encoder",
                f"sha256 is {sha256}, expected {recorded}",
                f"the weights are named in {self.config}, table [seq]",
            )


def _state(module: Any) -> dict[str, Tensor]:
    return module.state_dict() if isinstance(module, nn.Module) else {}


def _hints(path: Path, folder: RunFolder) -> list[str]:
    hints = [f"import a file of weights first: esmgn weights import {path} -o DIR"] * path.is_file()
    if folder.last.is_dir():
        hints.append(f"the run has not written its best encoder yet; resume it: esmgn run --resume {path}")
    return [*hints, "expected a run folder, or a folder written by esmgn weights import"]
