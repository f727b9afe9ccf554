"""Components with a planted fault, and unusual valid ones: what the conformance kit must catch and accept.

A module of this package has the components of one kind. Its decorators name the claim that must fail:

>>> @fault(Kind.GRAPH, "an edge joins residues of two proteins")
... class JoinsProteins(ExampleGraph): ...

``python -m tests.contract.planted`` prints the table of results.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from esmgn_core.io import Format
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class

Verdict = Literal["caught", "caught by another claim", "missed", "not judged", "accepted", "falsely refused"]


@dataclass(frozen=True, slots=True)
class Planted:
    """A component under a claim.

    Attributes:
        kind: kind of the component.
        component: its class.
        message: pattern of the message or claim that must catch the fault; ``None`` if it is valid.
        settings: settings instead of the defaults.
        expected: the result of the kit.
    """

    kind: Kind
    component: type
    message: str | None
    settings: dict[str, Any]
    expected: Verdict

    def __str__(self) -> str:
        return f"{self.kind}-{self.component.__name__}"

    @property
    def description(self) -> str:
        """The first line of the docstring, or the name of the class as words."""
        own = self.component.__dict__.get("__doc__")
        words = re.sub(r"(?<!^)(?=[A-Z][a-z])", " ", self.component.__name__)
        return str(own).splitlines()[0] if own else words.lower()

    def _subject(self) -> Any:
        """The class; of a format the declaration that its attributes make."""
        if self.kind is not Kind.FORMAT:
            return self.component
        parts: Any = self.component
        return Format(parts.__name__, parts.suffixes, parts.sniff, parts.read)

    def judge(self) -> tuple[Verdict, str]:
        """The result of the kit, and the text of its error, or of the claims that it did not judge."""
        try:
            doubts = "\n".join(check_class(self.kind, self._subject(), **self.settings))
        except Exception as error:  # noqa: BLE001 - an error of the component counts as a failed claim
            text = "\n".join([str(error), *getattr(error, "__notes__", ())])
            if self.message is None:
                return "falsely refused", text
            about = re.escape(f"{self.kind.long_name} '{self.component.__name__}'")
            caught = re.search(f"{about}.*{self.message}", text, re.DOTALL)
            return ("caught" if caught else "caught by another claim"), text
        if self.message is None:
            return "accepted", doubts
        return ("not judged" if re.search(self.message, doubts) else "missed"), doubts


_PLANTED: list[Planted] = []


def fault(kind: Kind, message: str, **settings: Any) -> Callable[[type], type]:
    """Add the decorated class to the set: a claim whose message matches a pattern must fail."""
    return _adder(kind, message, settings, "caught")


def undecided(kind: Kind, message: str, **settings: Any) -> Callable[[type], type]:
    """Add the decorated class to the set: no claim fails, and one that is not judged matches a pattern."""
    return _adder(kind, message, settings, "not judged")


def valid(kind: Kind, **settings: Any) -> Callable[[type], type]:
    """Add the decorated class to the set: every claim must hold."""
    return _adder(kind, None, settings, "accepted")


def _adder(
    kind: Kind, message: str | None, settings: dict[str, Any], expected: Verdict
) -> Callable[[type], type]:
    def add(component: type) -> type:
        _PLANTED.append(Planted(kind, component, message, settings, expected))
        return component

    return add


def all_planted() -> list[Planted]:
    """The planted components of all modules of this package."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return [*_PLANTED]
