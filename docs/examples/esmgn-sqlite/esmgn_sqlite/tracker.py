"""The tracker ``sqlite``."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings


class SqliteTracker:
    """Writes metrics to a database, one row for each step and value of each run.

    A resumed run replaces the rows of the steps that it repeats. Several runs can write at the same time.
    """

    class Settings(ComponentSettings):
        file: str = "runs.sqlite"
        """Name of the database, in the folder that contains the run."""

    def __init__(self, settings: Settings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        self._run = run.path.name
        # esmgn makes and calls a tracker in different threads, one call at a time.
        path = run.path.parent / settings.file
        self._database = sqlite3.connect(path, timeout=60, check_same_thread=False)
        with self._database as database:
            database.execute("CREATE TABLE IF NOT EXISTS runs (run PRIMARY KEY, config, state)")
            columns = "run, step, name, value, PRIMARY KEY (run, step, name)"
            database.execute(f"CREATE TABLE IF NOT EXISTS metrics ({columns})")
            row = (self._run, json.dumps(config, default=str), "running")
            database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        rows = [(self._run, step, name, value) for name, value in values.items()]
        with self._database as database:
            database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", rows)

    def close(self, *, failed: bool) -> None:
        """Record how the run ended."""
        with self._database as database:
            state = "failed" if failed else "finished"
            database.execute("UPDATE runs SET state = ? WHERE run = ?", (state, self._run))
        self._database.close()
