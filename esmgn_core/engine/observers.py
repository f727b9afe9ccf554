"""Calls of the observers of a run, which must not harm it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esmgn_core.engine.trackers import Trackers
from esmgn_core.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Observers:
    """Calls the trackers of a run and the observers among the hooks, in the main process alone.

    Attributes:
        hooks: ``pluggy`` hook caller.
        run: the run they observe.
        is_main: whether this is the main process.
        trackers: of the run.
    """

    hooks: Any
    run: RunFolder
    is_main: bool
    trackers: Trackers

    def notify(self, event: str, **arguments: Any) -> None:
        """Call ``esmgn_EVENT`` of every observer; one that fails is noted in the log."""
        if not self.is_main:
            return
        if event == "run_started":
            self.trackers.start()
        elif event == "metrics_logged":
            self.trackers.put(**arguments)
        elif event == "run_finished":
            self.trackers.close(failed=arguments["error"] is not None)
        given = {"run": self.run, **arguments}
        # One by one: pluggy's own call would leave out those after the first that fails.
        for observer in getattr(self.hooks, f"esmgn_{event}").get_hookimpls():
            try:
                observer.function(*(given[name] for name in observer.argnames))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's observer may raise anything
                reason = f"{type(error).__name__}: {error}"
                self.run.log(f"observer {observer.plugin_name} of {event} failed: {reason}")

    def notice(self, text: str) -> None:
        """Show the user something that did not stop the run, and note it in the log."""
        if self.is_main:
            self.run.log(text)
        self.notify("notice", text=text)
