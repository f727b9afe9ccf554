"""Entry point of the program: ``esmgn`` and ``python -m esmgn_cli``."""

from __future__ import annotations

import logging
import os
import sys

from esmgn_cli.app import build_app
from esmgn_cli.launch import reporting
from esmgn_cli.render import echo
from esmgn_core.errors import EsmgnError
from esmgn_core.printable import printable


def main() -> None:
    """Run the program; a user's mistake is one message on stderr and exit status 2."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_PrintableFormatter())
    reporting(_run)


class _PrintableFormatter(logging.Formatter):
    """Messages of the log on stderr, with the names in them made safe to print."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name logging calls
        return printable(super().formatMessage(record))


def _run() -> None:
    try:
        build_app()()
    except EsmgnError as error:
        rank = os.environ.get("RANK", "0")
        prefix = "error" if rank == "0" else f"error (process {rank})"
        echo(f"{prefix}: {error.message}", *(f"  {hint}" for hint in error.hints), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
