"""Names that a plugin needs to declare components; imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from esmgn_core.errors import EsmgnError
from esmgn_core.host.hooks import hookimpl
from esmgn_core.spec import ComponentSpec, Kind
from esmgn_core.version import __version__

if TYPE_CHECKING:
    from esmgn_core.inference.model import Model

__all__ = ["ComponentSpec", "EsmgnError", "Kind", "__version__", "hookimpl", "load"]


def load(
    folder: str | os.PathLike[str] | None = None,
    *,
    seq: str | None = None,
    struct: str | None = None,
    fuse: str | None = None,
    graph: str | None = None,
    changes: tuple[str, ...] = (),
    device: str = "auto",
) -> Model:
    """Load an encoder for inference: ``load("runs/my-run").embed("1abc.pdb")``.

    Args:
        folder: folder of a run, or of weights from ``esmgn weights import``.
        seq: instead of a folder, a sequence encoder (preset or component). It is used alone if neither
            ``struct`` nor ``fuse`` is given.
        struct: structure encoder, with random weights.
        fuse: fuser, with random weights. Default: ``serial``.
        graph: graph builder. Default: that of the structure encoder.
        changes: settings as text, ``TABLE.KEY=VALUE``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        EsmgnError: the folder, component or setting does not exist, or the weights cannot be downloaded.
    """
    # Imported here, because plugins import this package to declare components, and must not import torch.
    from esmgn_core.inference.model import ModelName, load_model

    names = {"seq": seq, "struct": struct, "fuse": fuse, "graph": graph}
    given = {kind: name for kind, name in names.items() if name is not None}
    return load_model(ModelName(os.fspath(folder) if folder else None, given, changes), device=device)
