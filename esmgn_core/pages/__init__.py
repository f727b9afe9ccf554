"""HTML pages: templates with escaping, a common style sheet and a security policy.

Values in templates are escaped: markup by the template engine, control and bidirectional characters by
:func:`esmgn_core.printable.printable`. Only :class:`Markup` from our own code is inserted unchanged.
A page is a single file. Its policy forbids all network requests.
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
    """Render a page.

    Args:
        template: a file in this folder, such as ``store.html``.
        values: variables of the template.
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
    """Make control characters visible, except in text marked as safe by our own code."""
    return value if isinstance(value, Markup) else printable(value)
