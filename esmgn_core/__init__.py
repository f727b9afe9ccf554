"""Contracts of esmgn: what a plugin needs to declare components, without importing torch."""

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
    """Load an encoder for use: ``load("runs/my-run").embed("1abc.pdb")``.

    Args:
        folder: of a run, or of weights that ``esmgn weights import`` made.
        seq: sequence encoder of a composition instead, a preset or component; used alone where
            neither ``struct`` nor ``fuse`` is given.
        struct: its structure encoder; random weights.
        fuse: its fuser; ``serial`` if not given.
        graph: its graph builder; the one the structure encoder is meant for.
        changes: settings, as texts ``TABLE.KEY=VALUE``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        EsmgnError: no such folder, component or setting, or weights that cannot be had.
    """
    # Plugins import this package to declare components: torch waits until a model is asked for.
    from esmgn_core.inference.model import ModelName, load_model

    names = {"seq": seq, "struct": struct, "fuse": fuse, "graph": graph}
    given = {kind: name for kind, name in names.items() if name is not None}
    return load_model(ModelName(os.fspath(folder) if folder else None, given, changes), device=device)
