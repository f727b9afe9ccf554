"""The tracker ``wandb``: Weights & Biases. ``WANDB_MODE=offline`` writes to the run folder only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

from esmgn_core.run_folder import RunFolder
from esmgn_trackers.study import StudySettings, group_of


class WandB:
    """Logs a run folder to one W&B run, which a resumed run continues."""

    class Settings(StudySettings):
        """Settings of :class:`WandB`."""

    def __init__(self, settings: Settings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            group=group_of(settings, run, config),
            tags=list(settings.tags),
            name=run.path.name,
            id=run.name_for_trackers(),
            resume="allow",
            dir=str(run.path),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of a step."""
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """Send the remaining values and finish the run."""
        self._run.finish(exit_code=int(failed))
