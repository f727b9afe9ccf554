"""Errors that are the user's to fix: printed without a traceback, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EsmgnError(Exception):
    """Base of every error a user can cause and mend.

    The message says what is wrong and where; ``hints`` are further lines: the nearest valid name,
    what is available, the next command to type.
    """

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = tuple(hints)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {hint}" for hint in self.hints)])


class UnknownComponentError(EsmgnError):
    """A component, preset, recipe or kind that nobody registered."""


class SettingsError(EsmgnError):
    """A setting that is unknown, of the wrong type or out of bounds."""


class PluginError(EsmgnError):
    """A plugin that cannot be loaded or breaks the contract of its kind."""


class WeightsError(EsmgnError):
    """Weights that are missing, damaged or do not fit the model."""


class StructureError(EsmgnError):
    """A structure file that cannot be read, with the file and the reason."""


class RunError(EsmgnError):
    """A run that cannot start, go on or be resumed."""


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """A one-line hint naming the nearest candidate, or nothing when none is near.

    >>> did_you_mean("gearnett", ["gearnet", "egnn"])
    ('did you mean: gearnet?',)
    """
    near = difflib.get_close_matches(name, list(candidates), n=1)
    return (f"did you mean: {near[0]}?",) if near else ()
