"""torchrun for processes that say themselves why they failed: its own report would stand below it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run torchrun's program; exit status 1 if a process failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except ChildFailedError:
        sys.exit(1)


if __name__ == "__main__":
    main()
