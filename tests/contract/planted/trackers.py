"""Trackers with a planted fault, and valid ones."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from typing import Any

from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.TRACKER)
class Lines:
    """Appends a line for each step."""

    mode = "a"

    class Settings(ComponentSettings):
        pass

    def __init__(self, settings: ComponentSettings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        self.settings, self.run, self.config = settings, run, config
        self.write("", mode=self.mode)

    def write(self, text: str, mode: str = "a") -> None:
        with (self.run.path / "lines.txt").open(mode, encoding="utf-8") as file:
            file.write(text)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.write(f"{step} {dict(values)}\n")

    def close(self, *, failed: bool) -> None:
        self.write("failed\n" if failed else "")


@valid(Kind.TRACKER)
class Rewrites(Lines):
    """Keeps the last step only, in a file that it replaces."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        (self.run.path / "last.txt").write_text(f"{step:08} {values['loss']:.6f}", encoding="utf-8")


@fault(Kind.TRACKER, "overwrites or removes lines.txt")
class BeginsAnew(Lines):
    mode = "w"


@fault(Kind.TRACKER, "at steps that are repeated")
class EachStepOnce(Lines):
    steps: set[tuple[str, int]] = set()  # noqa: RUF012 - the fault

    def log(self, step: int, values: Mapping[str, float]) -> None:
        key = (str(self.run.path), step)
        if key in self.steps:
            raise ValueError(f"a step twice: {step}")
        self.steps.add(key)
        super().log(step, values)


@fault(Kind.TRACKER, "not finite")
class RefusesNaN(Lines):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        if any(math.isnan(value) for value in values.values()):
            raise ValueError("a value that is not finite")
        super().log(step, values)


@fault(Kind.TRACKER, "values that are not finite")
class RoundsValues(Lines):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        super().log(step, {name: int(value) for name, value in values.items()})


@fault(Kind.TRACKER, "in place: values")
class AddsTheStep(Lines):
    def log(self, step: int, values: Any) -> None:
        values["step"] = step
        super().log(step, values)


@fault(Kind.TRACKER, "in place: config")
class ChangesConfig(Lines):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.config["train"].pop("trackers", None)
        super().log(step, values)


@fault(Kind.TRACKER, "changes files of the run: metrics.jsonl")
class WritesMetrics(Lines):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self.run.metrics.open("a", encoding="utf-8") as file:
            file.write(f"{step} {dict(values)}\n")


@fault(Kind.TRACKER, "changes files of the run: config.toml")
class WritesConfig(Lines):
    def close(self, *, failed: bool) -> None:
        super().close(failed=failed)
        self.run.config.write_text("", encoding="utf-8")


@fault(Kind.TRACKER, "can be closed after a run that failed")
class NeverFails(Lines):
    def close(self, *, failed: bool) -> None:
        if failed:
            raise NotImplementedError("runs do not fail")
        super().close(failed=failed)


@fault(Kind.TRACKER, "without another line")
class NeedsALine(Lines):
    """Cannot be closed before the first line."""

    last: int

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.last = step
        super().log(step, values)

    def close(self, *, failed: bool) -> None:
        self.write(f"{self.last}\n")
        super().close(failed=failed)


@fault(Kind.TRACKER, "It logs lines")
class MainThread(Lines):
    """Needs the main thread."""

    def __init__(self, settings: ComponentSettings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        super().__init__(settings, run=run, config=config)


@fault(Kind.TRACKER, "lacks: close")
class WithoutClose:
    """Has no close."""

    class Settings(ComponentSettings):
        pass

    def __init__(self, settings: ComponentSettings, *, run: RunFolder, config: Mapping[str, Any]) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass
