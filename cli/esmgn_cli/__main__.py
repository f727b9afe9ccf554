"""Entry point of the program: ``esmgn`` and ``python -m esmgn_cli``."""

from __future__ import annotations

import os
import sys

from esmgn_cli.app import build_app
from esmgn_cli.launch import reporting
from esmgn_core.errors import EsmgnError


def main() -> None:
    """Run the program; a user's mistake is one message on stderr and exit status 2."""
    reporting(_run)


def _run() -> None:
    try:
        build_app()()
    except EsmgnError as error:
        rank = os.environ.get("RANK", "0")
        prefix = "error" if rank == "0" else f"error (process {rank})"
        print(f"{prefix}: {error}", file=sys.stderr)  # noqa: T201 - the program speaks here
        sys.exit(2)


if __name__ == "__main__":
    main()
