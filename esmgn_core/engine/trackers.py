"""Run each tracker in a separate thread, so that a slow server cannot block the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esmgn_core.errors import UnknownComponentError
from esmgn_core.host.components import build_component
from esmgn_core.host.configure import merge_tables
from esmgn_core.host.registry import Registry, ResolvedName
from esmgn_core.protocols import Tracker
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings, RunConfig, settings_class, validated
from esmgn_core.spec import ComponentSpec, Kind, pip_install

CAPACITY = 10_000
"""Maximum number of lines that wait for a slow server; others are dropped."""
PATIENCE = 3
"""A tracker is stopped after this many successive failures."""
SECONDS_AT_THE_END = 15.0

_Item = tuple[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class TrackerPlan:
    """Class and validated settings of a tracker that is not built yet."""

    spec: ComponentSpec
    component: type
    settings: ComponentSettings

    def table(self) -> dict[str, Any]:
        """Its table in the run file, with all settings."""
        return {"component": self.spec.name, **self.settings.model_dump(mode="json", exclude_none=True)}


def resolve_trackers(registry: Registry, config: RunConfig) -> dict[str, TrackerPlan]:
    """Load the trackers in ``train.trackers`` and validate their settings in ``[tracker.NAME]``.

    Raises:
        UnknownComponentError: no plugin has a tracker of this name.
        PluginError: a tracker cannot be loaded; the message names the package to install.
        SettingsError: a setting is unknown, has the wrong type or is out of bounds.
    """
    for name, table in config.tracker.items():
        if "component" not in table:
            registry.find(Kind.TRACKER, name, where=f"[tracker.{name}]")
    return {name: _plan(registry, config, name) for name in config.train.trackers}


def _plan(registry: Registry, config: RunConfig, name: str) -> TrackerPlan:
    values = dict(config.tracker.get(name, {}))
    if component := values.pop("component", ""):
        spec = registry.component(Kind.TRACKER, component, where="train.trackers")
    else:
        named = _find(registry, name)
        spec, values = named.spec, merge_tables(named.settings, values)
    tracker = registry.load(spec)
    what = f"tracker '{name}'{config.written_in.get(Kind.TRACKER, '')}"
    settings = validated(settings_class(spec, tracker), values, what=what, see=f"esmgn show {spec.name}")
    return TrackerPlan(spec, tracker, settings)


def _find(registry: Registry, name: str) -> ResolvedName:
    try:
        return registry.find(Kind.TRACKER, name, where="train.trackers")
    except UnknownComponentError as error:
        specs = [spec for spec, _ in registry.components(Kind.TRACKER)]
        extras = [package for spec in specs if spec.install_command for package in spec.requires.values()]
        raise UnknownComponentError(
            error.message,
            *error.hints,
            *([f"some need an extra: {pip_install(extras)}"] if extras else []),
            "no tracker: --set train.trackers=[]",
        ) from None


class Trackers:
    """Passes the metrics of a run to its trackers.

    Args:
        plans: from :func:`resolve_trackers`.
        run: the run folder.
    """

    def __init__(self, plans: Mapping[str, TrackerPlan], run: RunFolder) -> None:
        self._plans, self._run = plans, run
        self._open: list[Background] = []

    def start(self) -> None:
        """Start a thread for each tracker, which builds and calls it."""
        if not self._plans:
            return
        # Without the packages, because runs with equal settings are one group.
        config, _ = self._run.recorded_tables()
        self._open = [Background(name, plan, self._run, config) for name, plan in self._plans.items()]

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the values of a step without waiting."""
        for tracker in self._open:
            tracker.put(step, values)

    def close(self, *, failed: bool) -> None:
        """Wait for the trackers to finish, for a limited time."""
        for tracker in self._open:
            tracker.close(failed=failed)
        self._open = []


class Background:
    """Runs a tracker in a thread.

    Args:
        name: for messages.
        plan: the tracker.
        run: the run folder.
        config: the run's configuration.
    """

    def __init__(self, name: str, plan: TrackerPlan, run: RunFolder, config: Mapping[str, Any]) -> None:
        self._name, self._run = name, run
        self._items: queue.Queue[_Item | None] = queue.Queue(CAPACITY)
        self._failed = self._given_up = False
        self._dropped = 0
        self._thread = threading.Thread(
            target=self._work, args=(plan, config), name=f"esmgn-{name}", daemon=True
        )
        self._thread.start()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the values of a step; drop them if the queue is full."""
        if self._given_up:
            return
        try:
            self._items.put_nowait((step, dict(values)))
        except queue.Full:
            self._dropped += 1

    def close(self, *, failed: bool) -> None:
        """Wait until all lines are sent, for a limited time."""
        self._failed = failed
        deadline = time.monotonic() + SECONDS_AT_THE_END
        try:
            self._items.put(None, timeout=SECONDS_AT_THE_END)
        except queue.Full:
            self._dropped += 1
        self._thread.join(max(0.0, deadline - time.monotonic()))
        left = self._items.qsize() + self._dropped
        if self._thread.is_alive():
            self._note(f"does not answer; {left} lines are only in {self._run.metrics.name}")
        elif self._dropped:
            self._note(f"was too slow; {self._dropped} lines are only in {self._run.metrics.name}")

    def _work(self, plan: TrackerPlan, config: Mapping[str, Any]) -> None:
        tracker: Tracker | None = None
        failures = 0
        while (item := self._items.get()) is not None:
            try:
                if tracker is None:
                    tracker = build_component(
                        plan.spec, plan.component, plan.settings, run=self._run, config=config
                    )
                tracker.log(*item)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - third-party code may raise anything
                failures += 1
                self._note(f"failed: {type(error).__name__}: {error}")
                if failures == PATIENCE:
                    self._given_up = True
                    self._note(f"is stopped; metrics are in {self._run.metrics.name}")
                    return
            else:
                failures = 0
        try:
            if tracker:
                tracker.close(failed=self._failed)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._note(f"failed: {type(error).__name__}: {error}")

    def _note(self, text: str) -> None:
        self._run.log(f"tracker {self._name} {text}")
