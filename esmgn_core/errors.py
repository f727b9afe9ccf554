"""Errors that a user can fix: printed without a traceback, exit status 2."""

from __future__ import annotations

import difflib
import importlib
import json
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class EsmgnError(Exception):
    """Base class of errors that a user can cause and fix.

    Args:
        message: what is wrong, and where.
        hints: further lines, such as the nearest valid name, the available names, the next command to run.
    """

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = tuple(hints)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {hint}" for hint in self.hints)])


class UnknownComponentError(EsmgnError):
    """An unknown component, preset, recipe or kind."""


class SettingsError(EsmgnError):
    """A setting that is unknown, of the wrong type or out of bounds."""


class PluginError(EsmgnError):
    """A plugin that cannot be loaded or breaks the contract of its kind."""


class WeightsError(EsmgnError):
    """Weights that are missing, damaged or do not fit the model."""


class StructureError(EsmgnError):
    """A structure file that cannot be read; names the file and the reason."""


class DataError(EsmgnError):
    """A source, store or list of splits that cannot be read or written."""


class RunError(EsmgnError):
    """A run that cannot start, continue or be resumed."""


class WriteError(EsmgnError):
    """A file that cannot be written, because the disk is full or read-only."""


class EsmgnWarning(UserWarning):
    """A condition that the user should know and that does not stop the call."""


class EsmgnDeprecationWarning(FutureWarning):
    """A public name that a later version removes. A ``FutureWarning``, because Python shows it by default."""


def deprecated_names(module: str, since: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose deprecated names still work, with a warning.

    Args:
        module: the module, ``__name__``.
        since: minor release that deprecates the names, such as ``0.2``.
        names: the full new name for each deprecated one, such as
            ``{"held_out": "esmgn_core.splits.in_fraction"}``.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new_name = names[name].rpartition(".")
        warnings.warn(
            f"{module}.{name} is deprecated since esmgn {since}: use {names[name]}",
            EsmgnDeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(place), new_name)

    return find


@contextmanager
def without_exits() -> Iterator[None]:
    """Turn a ``SystemExit`` of a plugin inside the block into an error.

    Raises:
        PluginError: the block raised ``SystemExit``; names the line.
    """
    try:
        yield
    except SystemExit as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"{frame.filename}:{frame.lineno} tried to end the program: SystemExit({error.code!r})",
            "a component, dataset or observer must raise an error instead",
        ) from error


def check_choice(what: str, name: str, choices: Collection[str], where: str) -> None:
    """Refuse a name that is not one of the choices.

    Args:
        what: noun for the message, such as ``level``.
        name: the chosen name.
        choices: all valid names.
        where: the option or setting, such as ``--level``.

    Raises:
        SettingsError: the name is unknown.
    """
    if name not in choices:
        available = f"available: {', '.join(choices)}"
        raise SettingsError(f"unknown {what} '{name}' ({where})", *did_you_mean(name, choices), available)


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """Hint with the nearest candidate; empty if no candidate is similar.

    >>> did_you_mean("GearNett", ["gearnet", "egnn"])
    ('did you mean: gearnet?',)
    """
    spelled = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), spelled, n=1)
    return (f"did you mean: {spelled[near[0]]}?",) if near else ()


def shown(value: object) -> str:
    """A value in the syntax of a run file.

    >>> print(shown({"weights": "random", "betas": [0.9, 0.999], "reference": True}))
    {weights = "random", betas = [0.9, 0.999], reference = true}
    """
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
