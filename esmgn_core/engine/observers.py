"""Call the observers of a run; their errors must not stop it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esmgn_core.engine.trackers import Trackers
from esmgn_core.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Observers:
    """Calls the trackers of a run and the observer hooks of plugins, in the main process only.

    Attributes:
        hooks: ``pluggy`` hook caller.
        run: the observed run.
        is_main: True in the main process.
        trackers: trackers of the run.
    """

    hooks: Any
    run: RunFolder
    is_main: bool
    trackers: Trackers

    def notify(self, event: str, **arguments: Any) -> None:
        """Call ``esmgn_EVENT`` of every observer; failures are logged."""
        if not self.is_main:
            return
        if event == "run_started":
            self.trackers.start()
        elif event == "metrics_logged":
            self.trackers.put(**arguments)
        elif event == "run_finished":
            self.trackers.close(failed=arguments["error"] is not None)
        given = {"run": self.run, **arguments}
        # Call them one by one: pluggy's own call would skip the observers after the first failure.
        for observer in getattr(self.hooks, f"esmgn_{event}").get_hookimpls():
            try:
                observer.function(*(given[name] for name in observer.argnames))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - third-party code may raise anything
                reason = f"{type(error).__name__}: {error}"
                self.run.log(f"observer {observer.plugin_name} of {event} failed: {reason}")

    def notice(self, text: str) -> None:
        """Log a notice and show it to the user; the run goes on."""
        if self.is_main:
            self.run.log(text)
        self.notify("notice", text=text)
