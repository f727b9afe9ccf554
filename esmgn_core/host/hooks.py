"""The hooks of a plugin: one declares components, one adds commands, five observe runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from esmgn_core.spec import ComponentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

    from esmgn_core.run_folder import RunFolder

PROJECT = "esmgn"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions of a plugin that implement hooks."""


class HookSpecs:
    """Every hook a plugin may implement. A plugin takes only the arguments it needs."""

    @hookspec
    def esmgn_components(self) -> list[ComponentSpec]:
        """Declare components. Called once, at discovery; must not import torch."""
        raise NotImplementedError

    @hookspec
    def esmgn_commands(self, app: typer.Typer) -> None:
        """Add commands to the ``esmgn`` program. Heavy imports belong in the command's body."""

    @hookspec
    def esmgn_run_started(self, run: RunFolder, total_steps: int, first_step: int) -> None:
        """A run starts; ``first_step`` is above 0 for a resumed run."""

    @hookspec
    def esmgn_metrics_logged(self, run: RunFolder, step: int, values: Mapping[str, float]) -> None:
        """A line was appended to ``metrics.jsonl``; ``values`` is that line without ``step``."""

    @hookspec
    def esmgn_checkpoint_saved(self, run: RunFolder, path: Path) -> None:
        """A checkpoint was written and verified."""

    @hookspec
    def esmgn_notice(self, run: RunFolder, text: str) -> None:
        """A notice for the user about a run that goes on; also in ``log.txt``."""

    @hookspec
    def esmgn_run_finished(self, run: RunFolder, error: BaseException | None) -> None:
        """A run ended; ``error`` is ``None`` if nothing failed."""
