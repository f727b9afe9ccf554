"""The run file's tables that make this package compute what the original did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.published.entries import Layout, Model


def run_tables(model: Model, *, weights: Path) -> dict[str, dict[str, Any]]:
    """Tables ``seq``, ``struct``, ``fuse`` and ``graph`` for a published model.

    Args:
        model: what the file holds.
        weights: the ``model.safetensors`` that will hold its tensors by our names.

    Returns:
        Only ``seq`` for ESM-2 alone.
    """
    tables: dict[str, dict[str, Any]] = {"seq": {"name": "onehot"}}
    if model.sequence:
        tables["seq"] = {"name": "esm2", **model.sequence._asdict(), "weights": str(weights)}
    if not model.structure:
        return tables
    if model.sequence:
        # Pre-training saw unknown residues as glycine, and the chains of a protein as one sequence.
        tables["seq"] |= {"unknown_residue": "G", "chains": "concatenated"}
    struct = {"num_layers": model.structure.num_layers, "hidden_dim": model.structure.hidden_dim}
    tables["struct"] = {"name": "gearnet", **struct}
    if model.layout is Layout.GEARNET_EDGE:
        tables["struct"] = {"name": "gearnet_edge", **struct, "unknown_residue": "G"}
    tables["fuse"] = _fuse(model)
    tables["graph"] = {"name": "relational"}
    return tables


def _fuse(model: Model) -> dict[str, Any]:
    if model.sequence is None:
        return {"name": "serial", "output": "structure"}
    if model.cross_dim:
        return {"name": "cross", "cross_dim": model.cross_dim}
    one_hot = model.structure is not None and model.structure.input_dim == NUM_RESIDUE_FEATURES
    return {"name": "parallel" if one_hot else "serial"}
