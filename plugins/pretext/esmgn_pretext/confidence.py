"""Handling of residues of low confidence (pLDDT) in predicted structures, and weighted means."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from esmgn_core.batch import ProteinBatch, TaskOutput
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings


class Confidence(ComponentSettings):
    """Settings for residues of low pLDDT. Experimental structures have no pLDDT and are not affected."""

    threshold: float = Field(0.0, ge=0, le=100)
    """Residues of predicted structures with a pLDDT below this are uncertain; 0 for none."""
    weight: float = Field(0.0, ge=0, le=1)
    """Weight of predictions about uncertain residues in the loss: 0 leaves them out, 1 treats them as
    all others."""
    drop_edges: bool = False
    """Remove all edges between an uncertain residue and others, before edges to predict are drawn."""

    def residue_weight(self, batch: ProteinBatch) -> Tensor | None:
        """Weight of each residue in the loss, float32 [N]; ``None`` if all are 1."""
        uncertain = self._uncertain(batch)
        if uncertain is None or self.weight == 1:
            return None
        return uncertain.float().mul_(self.weight - 1).add_(1)

    def targets(self, batch: ProteinBatch, residues: Tensor) -> dict[str, Tensor]:
        """Target ``weight`` [S] of predictions about residues int64 [S] or [k, S]; empty if all are 1.

        A prediction about several residues has the smallest of their weights.
        """
        weight = self.residue_weight(batch)
        if weight is None:
            return {}
        each = weight[residues]
        return {"weight": each if each.dim() == 1 else each.amin(dim=0)}

    def protein_targets(self, batch: ProteinBatch) -> dict[str, Tensor]:
        """Target ``weight`` [B] of predictions about proteins, the mean over the residues of each."""
        weight = self.residue_weight(batch)
        return {} if weight is None else {"weight": _mean_by_protein(weight, batch)}

    def certain_edges(self, batch: ProteinBatch, graph: ResidueGraph) -> ResidueGraph:
        """The graph without the edges to drop. Self-loops stay."""
        uncertain = self._uncertain(batch)
        if uncertain is None or not self.drop_edges:
            return graph
        source, target = graph.edge_index
        return graph.keep_edges((source == target) | ~(uncertain[source] | uncertain[target]))

    def _uncertain(self, batch: ProteinBatch) -> Tensor | None:
        # A protein without pLDDT has NaN here, and no comparison with NaN is true.
        return None if batch.plddt is None or not self.threshold else batch.plddt < self.threshold


def left_out(batch: ProteinBatch, residue: Tensor, weight: Tensor | None = None) -> int:
    """Number of proteins without a prediction of positive weight.

    Args:
        batch: N residues of B proteins.
        residue: int64 [S], a residue of each prediction's protein.
        weight: float or bool [S], weight of each prediction; ``None`` for equal weights.
    """
    counted = residue if weight is None else residue[weight > 0]
    num_predictions = batch.protein_index[counted].bincount(minlength=len(batch))
    return int((num_predictions == 0).sum())


def _mean_by_protein(values: Tensor, batch: ProteinBatch) -> Tensor:
    total = values.new_zeros(len(batch)).index_add(0, batch.protein_index, values)
    return total / batch.lengths.clamp(min=1)


def means(loss: Tensor, metrics: Mapping[str, Tensor], weight: Tensor | None = None) -> TaskOutput:
    """Weighted means of a loss [S] and of metrics [S] over S predictions.

    ``weight`` [S] is float, bool, or ``None`` for equal weights.
    """
    if weight is None:
        total: float = len(loss)
    else:
        # 0 times a loss that is not finite would be NaN.
        loss = (loss * weight).masked_fill(weight == 0, 0)
        metrics = {name: values * weight for name, values in metrics.items()}
        total = weight.sum().item()
    divisor = total or 1
    return TaskOutput(
        loss=loss.sum() / divisor,
        num_samples=total,
        metrics={name: values.detach().sum() / divisor for name, values in metrics.items()},
    )
