"""The pretext task ``torsion``."""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_core.settings import ComponentSettings
from esmgn_torsion.twist import twisted


class TorsionDenoising(nn.Module):
    """Adds noise to phi and psi of every residue, and predicts it from the twisted backbone."""

    predicts_residues = True

    class Settings(ComponentSettings):
        noise: float = Field(0.3, gt=0)
        """Standard deviation of the noise, in radians."""

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.head = nn.Linear(encoder_dim, 2)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view: the twisted proteins, and the noise [N, 2] in standard deviations."""
        noise = draws.normal(2 * batch.lengths.cpu()).float().to(batch.ptr.device).view(-1, 2)
        # Residues without N, CA or C stay as they are.
        whole = batch.atom_mask[:, :3].all(dim=1, keepdim=True).expand(-1, 2)
        noise = noise * whole
        moved = batch.replace(backbone=twisted(batch, noise * self.settings.noise))
        return (View(moved, build_graph(moved), {"noise": noise, "whole": whole}),)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean squared error; 1 is that of predicting no noise."""
        (view,), (encoding,) = views, encodings
        whole: Tensor = view.targets["whole"]
        error = (self.head(encoding.residue).float() - view.targets["noise"]).square() * whole
        number = int(whole.sum())
        return TaskOutput(error.sum() / max(number, 1), number)
