"""A tracker for esmgn."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    summary = "The metrics of all runs in one SQLite database"
    return [ComponentSpec(Kind.TRACKER, "sqlite", "esmgn_sqlite.tracker:SqliteTracker", summary)]
