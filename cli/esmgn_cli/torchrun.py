"""torchrun without its report of failed processes, which print their own errors."""

from __future__ import annotations

import sys


def main() -> None:
    """Run torchrun; exit with status 1 if a process failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except ChildFailedError:
        sys.exit(1)


if __name__ == "__main__":
    main()
