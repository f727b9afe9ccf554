"""Export of sequence encoders to folders that transformers loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from esmgn_core.errors import WeightsError
from esmgn_core.host.components import build_component
from esmgn_core.host.configure import component_settings
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import write_errors
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.protocols import SavesHuggingFace
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

_PREFIX = "sequence."


def export_hugging_face(registry: Registry, folder: Path, out: Path) -> list[str]:
    """Write the sequence encoder of a run or of imported weights as a folder of transformers.

    Args:
        registry: all components.
        folder: a run folder, or one written by ``esmgn weights import``.
        out: the new folder.

    Returns:
        Notes for the user, such as a head that is missing.

    Raises:
        WeightsError: there is no sequence encoder, or transformers cannot run it.
        RunError: ``out`` is not empty.
        WriteError: it cannot be written; partial results are removed.
    """
    if out.exists():
        RunFolder.check_empty(out)
    source = EncoderFolder(folder)
    config = source.run_config(registry)
    if config.seq is None:
        raise WeightsError(f"the encoder in {folder} has no sequence encoder", "other layouts: --layout")
    spec, component, settings = component_settings(registry, Kind.SEQ, config)
    if not issubclass(component, SavesHuggingFace):
        raise WeightsError(
            f"the sequence encoder {spec.name} in {folder} cannot be written for transformers (--layout)"
        )
    sequence = build_component(spec, component, settings)
    tensors = source.tensors(registry)
    own = {name.removeprefix(_PREFIX): tensors[name] for name in tensors if name.startswith(_PREFIX)}
    sequence.load_state_dict(own)
    target = out.expanduser().absolute()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with write_errors(out):
            fresh.mkdir(parents=True)
            notes: list[str] = sequence.save_hugging_face(fresh)
            fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return notes
