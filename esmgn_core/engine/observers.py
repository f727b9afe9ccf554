"""Telling plugins about a run, without letting them harm it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import RunError


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed.

    Raises:
        RunError: naming the extra to install.
    """
    for name in names:
        try:
            found = find_spec(name)
        except ValueError:  # switched off in sys.modules
            found = None
        if found is None:
            raise RunError(
                f"the tracker {name} (train.trackers) is not installed",
                f"install it: pip install 'esmgn[{name}]'",
            )


@dataclass(frozen=True, slots=True)
class Observers:
    """Calls the observers among the hooks, in the main process alone.

    Attributes:
        hooks: ``pluggy`` hook caller.
        run: the run they are told about.
        is_main: whether this is the main process.
    """

    hooks: Any
    run: RunFolder
    is_main: bool

    def tell(self, event: str, **arguments: Any) -> None:
        """Call ``esmgn_EVENT`` of every observer; one that fails is noted in the log."""
        if not self.is_main:
            return
        given = {"run": self.run, **arguments}
        # One by one: pluggy's own call would leave out those after the first that fails.
        for observer in getattr(self.hooks, f"esmgn_{event}").get_hookimpls():
            try:
                observer.function(*(given[name] for name in observer.argnames))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's observer may raise anything
                reason = f"{type(error).__name__}: {error}"
                self.run.log(f"observer {observer.plugin_name} of {event} failed: {reason}")

    def notice(self, text: str) -> None:
        """Tell the user something that did not stop the run; it is noted in the log as well."""
        if self.is_main:
            self.run.log(text)
        self.tell("notice", text=text)
