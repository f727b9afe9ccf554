"""The tracker ``tensorboard``: event files in the run folder; ``tensorboard --logdir RUN``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings


class TensorBoard:
    """Logs scalars in the groups ``train``, ``valid`` and ``test``."""

    class Settings(ComponentSettings):
        """No settings."""

    def __init__(self, settings: Settings, *, run: RunFolder, config: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._writer = EventFileWriter(str(run.tensorboard))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        summary = [Summary.Value(tag=_tag(name), simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=summary)))

    def close(self, *, failed: bool) -> None:  # noqa: ARG002
        """Flush and close the event file."""
        self._writer.close()


def _tag(name: str) -> str:
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in {"valid", "test"} else f"train/{name}"
