"""The kit of all HTML pages: one template engine that escapes, one style sheet, one security policy.

Whatever is put into a template is escaped: markup by the engine, control and bidirectional characters by
:func:`esmgn_core.printable.printable`. Only :class:`Markup` made by our own code passes as it is.
Pages are single files that load nothing; their policy forbids every request to a network.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from esmgn_core.printable import printable

__all__ = ["Markup", "render"]

_FOLDER = Path(__file__).parent


def render(template: str, /, **values: Any) -> str:
    """The text of a page.

    Args:
        template: a file in this folder, such as ``store.html``.
        values: what its expressions name.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


def _visible(value: Any) -> Any:
    """The value as it is shown: text that our own code marked as safe is left alone."""
    return value if isinstance(value, Markup) else printable(value)
