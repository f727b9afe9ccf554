"""What components return, checked on the first pass of a run and by the conformance kit."""

from __future__ import annotations

from typing import Any

import torch

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.errors import PluginError
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.host.registry import discover
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.spec import ComponentSpec


def require_contract(spec: ComponentSpec | None, problem: str) -> None:
    """Raise an error about a component that does not keep its contract.

    Args:
        spec: declaration of the component; ``None`` if no plugin declares it.
        problem: what is wrong; empty for nothing.

    Raises:
        PluginError: naming the component and its package.
    """
    if not problem or spec is None:
        return
    owners = [plugin for plugin in discover().plugins if spec in plugin.components]
    package = f" ({owners[0].distribution} {owners[0].version})" if owners else ""
    raise PluginError(
        f"{spec.kind.long_name} '{spec.name}'{package}: {problem}",
        f"check it: esmgn plugin check {spec.kind}:{spec.name}",
    )


class Checked(EncoderWrapper):
    """An encoder whose encoding is checked.

    Args:
        encoder: the encoder.
        spec: its declaration.
    """

    def __init__(self, encoder: Any, spec: ComponentSpec | None) -> None:
        super().__init__(encoder)
        self._spec = spec

    def __call__(self, batch: ProteinBatch, *more: Any) -> Encoding:
        """Encode, and check the result.

        Raises:
            PluginError: the result does not keep the contract.
        """
        encoding: Encoding = self._encoder(batch, *more)
        require_contract(self._spec, encoding_problem(encoding, batch, self.output_dim))
        return encoding


def encoding_problem(encoding: object, batch: ProteinBatch, width: int) -> str:
    """What is wrong with the encoding of a batch; empty for nothing. float16 may be infinite."""
    if not isinstance(encoding, Encoding):
        return f"returns {type(encoding).__name__}, expected Encoding"
    for name, length in (("residue", batch.num_residues), ("protein", len(batch))):
        tensor = getattr(encoding, name)
        if tuple(tensor.shape) != (length, width):
            shape = tuple(tensor.shape)
            return f"{name} representations have shape {shape}, expected ({length}, output_dim = {width})"
        if tensor.dtype != torch.float16 and not bool(tensor.isfinite().all()):
            return f"{name} representations are not all finite"
    return ""


def graph_problem(graph: object, batch: ProteinBatch, num_relations: int) -> str:
    """What is wrong with the edges of a residue graph; empty for nothing."""
    if not isinstance(graph, ResidueGraph):
        return f"returns {type(graph).__name__}, expected ResidueGraph"
    edges, relation = graph.edge_index, graph.relation
    if edges.shape != (2, *relation.shape) or relation.dim() != 1:
        return f"edge_index {tuple(edges.shape)} and relation {tuple(relation.shape)} are not [2, E] and [E]"
    if {edges.dtype, relation.dtype} != {torch.int64}:
        return "edge_index and relation are not int64"
    if graph.num_relations != num_relations:
        return f"its graph has num_relations {graph.num_relations}, the builder {num_relations}"
    if not graph.num_edges:
        return ""
    if not 0 <= int(edges.min()) <= int(edges.max()) < batch.num_residues:
        return "an edge joins residues that are not in the batch"
    if not 0 <= int(relation.min()) <= int(relation.max()) < num_relations:
        return f"a relation is not in the range from 0 to {num_relations - 1}"
    return ""


def views_problem(views: object) -> str:
    """What is wrong with the views of a task; empty for nothing."""
    if not isinstance(views, tuple) or not views or not all(isinstance(view, View) for view in views):
        return "views() does not return a tuple of at least one View"
    return ""


def output_problem(output: object) -> str:
    """What is wrong with the loss of a task; empty for nothing."""
    if not isinstance(output, TaskOutput):
        return f"loss() returns {type(output).__name__}, expected TaskOutput"
    loss = output.loss
    if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.is_floating_point():
        return "loss is not a float tensor of shape []"
    return ""
