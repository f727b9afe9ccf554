"""Entry point of the program: ``esmgn`` and ``python -m esmgn_cli``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the program; a user's mistake is one message on stderr and exit status 2."""
    starting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if starting:  # nothing is begun while modules are imported, so that Ctrl-C may end the program at once
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from esmgn_cli.launch import reporting

    if logging.lastResort:
        logging.lastResort.setFormatter(_PrintableFormatter())
    reporting(lambda: _run(starting=starting))


class _PrintableFormatter(logging.Formatter):
    """Messages of the log on stderr, with the names in them made safe to print."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name logging calls
        from esmgn_core.printable import printable

        return printable(super().formatMessage(record))


def _run(*, starting: bool) -> None:
    from esmgn_cli.app import build_app
    from esmgn_core.errors import EsmgnError
    from esmgn_core.host.registry import strict

    try:
        app = build_app()
        if starting:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except EsmgnError as error:
        _fail(error.message, *error.hints)
    except OSError as error:
        # A path that the user gave cannot be looked up: its name is too long, or a folder may not be entered.
        if error.filename is None or strict():
            raise
        _fail(f"cannot use {error.filename}: {error.strerror}", "for the traceback: ESMGN_STRICT=1")


def _fail(message: str, *hints: str) -> NoReturn:
    from esmgn_cli.render import echo

    rank = os.environ.get("RANK", "0")
    prefix = "error" if rank == "0" else f"error (process {rank})"
    echo(f"{prefix}: {message}", *(f"  {hint}" for hint in hints), err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
