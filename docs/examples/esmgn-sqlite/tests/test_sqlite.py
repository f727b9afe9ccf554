import sqlite3

from esmgn_sqlite.tracker import SqliteTracker

from esmgn_core.run_folder import RunFolder


def test_the_plugin_keeps_its_contracts(esmgn_check):
    esmgn_check("sqlite")


def test_a_resumed_run_replaces_the_steps_that_it_repeats(tmp_path):
    for losses in ({1: 4.0, 2: 3.0}, {2: 3.5, 3: 2.0}):
        run = RunFolder(tmp_path / "one")
        tracker = SqliteTracker(SqliteTracker.Settings(), run=run, config={"seed": 1})
        for step, loss in losses.items():
            tracker.log(step, {"loss": loss})
        tracker.close(failed=False)
    database = sqlite3.connect(tmp_path / "runs.sqlite")
    assert list(database.execute("SELECT step, value FROM metrics")) == [(1, 4.0), (2, 3.5), (3, 2.0)]
    assert list(database.execute("SELECT run, state FROM runs")) == [("one", "finished")]
    database.close()
