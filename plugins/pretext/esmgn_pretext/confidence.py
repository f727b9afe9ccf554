"""Predicted structures: what a task does about residues the predictor was unsure of."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from esmgn_core.batch import ProteinBatch, TaskOutput
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings


class Confidence(ComponentSettings):
    """Settings about residues of low pLDDT. Experimental structures have no pLDDT and are not touched."""

    threshold: float = Field(0.0, ge=0, le=100)
    """Residues of predicted structures whose pLDDT is below this are uncertain; 0 for none."""
    weight: float = Field(0.0, ge=0, le=1)
    """What a prediction about an uncertain residue counts for in the loss: 0 leaves it out, 1 makes no
    difference to others."""
    drop_edges: bool = False
    """Take all edges between an uncertain residue and others away, before any are drawn to be
    predicted."""

    def residue_weight(self, batch: ProteinBatch) -> Tensor | None:
        """Weight of each residue in the loss, float32 [N]; ``None`` where all are 1."""
        uncertain = self._uncertain(batch)
        if uncertain is None or self.weight == 1:
            return None
        return uncertain.float().mul_(self.weight - 1).add_(1)

    def targets(self, batch: ProteinBatch, residues: Tensor) -> dict[str, Tensor]:
        """Target ``weight`` [S] of predictions about residues int64 [S] or [k, S]; nothing where all are 1.

        A prediction about several residues counts as the least certain of them.
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
        """The graph without the edges that are to be dropped."""
        uncertain = self._uncertain(batch)
        if uncertain is None or not self.drop_edges:
            return graph
        source, target = graph.edge_index
        return graph.keep_edges((source == target) | ~(uncertain[source] | uncertain[target]))

    def _uncertain(self, batch: ProteinBatch) -> Tensor | None:
        # NaN stands for a protein without pLDDT, and is not below anything.
        return None if batch.plddt is None or not self.threshold else batch.plddt < self.threshold


def left_out(batch: ProteinBatch, residue: Tensor, weight: Tensor | None = None) -> int:
    """How many proteins have no prediction that counts.

    Args:
        batch: N residues of B proteins.
        residue: int64 [S], a residue of the protein each prediction is about.
        weight: float or bool [S], what each counts for; ``None`` where all count.
    """
    counting = residue if weight is None else residue[weight > 0]
    num_asked = batch.protein_index[counting].bincount(minlength=len(batch))
    return int((num_asked == 0).sum())


def _mean_by_protein(values: Tensor, batch: ProteinBatch) -> Tensor:
    total = values.new_zeros(len(batch)).index_add(0, batch.protein_index, values)
    return total / batch.lengths.clamp(min=1)


def means(loss: Tensor, metrics: Mapping[str, Tensor], weight: Tensor | None = None) -> TaskOutput:
    """Means of a loss [S] and of metrics [S] over predictions, each counted by ``weight`` [S], 1 if ``None``.

    ``weight`` may be bool, for predictions that count or do not.
    """
    if weight is None:
        total: float = len(loss)
    else:
        # A weighted zero would still hand on a loss that is not finite.
        loss = (loss * weight).masked_fill(weight == 0, 0)
        metrics = {name: values * weight for name, values in metrics.items()}
        total = weight.sum().item()
    divisor = total or 1
    return TaskOutput(
        loss=loss.sum() / divisor,
        num_samples=total,
        metrics={name: values.detach().sum() / divisor for name, values in metrics.items()},
    )
