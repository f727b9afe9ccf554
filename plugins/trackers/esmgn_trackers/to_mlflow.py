"""The tracker ``mlflow``: the server ``MLFLOW_TRACKING_URI``, else files in the run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from esmgn_core.run_folder import RunFolder
from esmgn_trackers.study import StudySettings, group_of

_LONGEST_PARAMETER = 500


class MLflow:
    """Logs a run folder to one MLflow run, which a resumed run continues.

    The project is the experiment and the entity is the user of the run. The group is a tag.
    """

    class Settings(StudySettings):
        """Settings of :class:`MLflow`."""

    def __init__(self, settings: Settings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need more packages
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (run.path / "mlruns").absolute().as_uri()
        self._client = MlflowClient(uri)
        project = self._client.get_experiment_by_name(settings.project)
        experiment = project.experiment_id if project else self._client.create_experiment(settings.project)
        query = f"tags.esmgn = '{run.name_for_trackers()}'"
        earlier = self._client.search_runs([experiment], query, max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            return
        tags = {
            **dict.fromkeys(settings.tags, "true"),
            "esmgn": run.name_for_trackers(),
            "group": group_of(settings, run, config),
            "mlflow.runName": run.path.name,
        }
        if settings.entity:
            tags["mlflow.user"] = settings.entity
        self._id = self._client.create_run(experiment, tags=tags).info.run_id
        params = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in _flat(config)]
        for first in range(0, len(params), 100):  # as many as a request may have
            self._client.log_batch(self._id, params=params[first : first + 100])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of a step."""
        self._client.log_batch(self._id, [Metric(name, value, 0, step) for name, value in values.items()])

    def close(self, *, failed: bool) -> None:
        """Mark the run as finished or failed."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
