"""Entry point of the program: ``esmgn`` and ``python -m esmgn_cli``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

_INTERRUPTED = 128 + signal.SIGINT
_show_as_python = warnings.showwarning


def main() -> None:
    """Run the program. A user's error is printed as one message on stderr; the exit status is 2."""
    starting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if starting:  # while modules are imported, nothing is at stake: Ctrl-C ends the program at once
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from esmgn_cli.launch import run_reporting

    if logging.lastResort:
        logging.lastResort.setFormatter(_PrintableFormatter())
    warnings.showwarning = _show_warning
    run_reporting(lambda: _run(starting=starting))


class _PrintableFormatter(logging.Formatter):
    """Format log messages on stderr; control characters in names are made printable."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name logging calls
        from esmgn_core.printable import printable

        return printable(super().formatMessage(record))


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **named: Any) -> None:
    """Print warnings of esmgn on one line, and others as Python does."""
    from esmgn_cli.render import echo
    from esmgn_core.errors import EsmgnDeprecationWarning, EsmgnWarning

    if issubclass(category, (EsmgnWarning, EsmgnDeprecationWarning)):
        echo(f"warning: {message}", err=True)
    else:
        _show_as_python(message, category, *place, **named)


def _run(*, starting: bool) -> None:
    from esmgn_cli.app import build_app
    from esmgn_core.errors import EsmgnError
    from esmgn_core.host.plugins import strict

    try:
        app = build_app()
        if starting:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except EsmgnError as error:
        _fail(error.message, *error.hints)
    except OSError as error:
        # A path of the user cannot be used: its name is too long, or a folder must not be entered.
        if error.filename is None or strict():
            raise
        _fail(f"cannot use {error.filename}: {error.strerror}", "to see the traceback, set ESMGN_STRICT=1")


def _fail(message: str, *hints: str) -> NoReturn:
    from esmgn_cli.render import echo

    rank = os.environ.get("RANK", "0")
    prefix = "error" if rank == "0" else f"error (process {rank})"
    echo(f"{prefix}: {message}", *(f"  {hint}" for hint in hints), err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
