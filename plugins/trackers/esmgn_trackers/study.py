"""Project, entity, group and tags of a run on a tracking server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings


class StudySettings(ComponentSettings):
    """Settings shared by trackers with a server."""

    project: str = "esmgn"
    """Project of the run; the experiment in MLflow."""
    entity: str | None = None
    """Team or user of the run. If not set, the default of the server."""
    group: str | None = None
    """Group of the run. If not set, all runs that differ only in ``train.seed`` are one group."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""


def group_of(settings: StudySettings, run: RunFolder, config: Mapping[str, Any]) -> str:
    """The group in the settings, else a name shared by all seeds of a configuration.

    That name has the components of the run, and a digest of all settings except the seed and the trackers and
    of the weights that the run started from.
    """
    if settings.group is not None:
        return settings.group
    train = {name: value for name, value in config["train"].items() if name not in ("seed", "trackers")}
    facts = {**config, "train": train, "tracker": None, "init": (run.started_from() or {}).get("sha256")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    kinds = ("seq", "struct", "fuse", "pretext", "downstream")
    return "-".join([*(config[kind]["name"] for kind in kinds if kind in config), digest])
