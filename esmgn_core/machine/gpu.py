"""The GPU of this machine."""

from __future__ import annotations

import shutil
import sys


def has_gpu() -> bool:
    """True if this machine has an NVIDIA GPU; torch is used only if it is loaded already."""
    torch = sys.modules.get("torch")
    return bool(torch.cuda.is_available()) if torch else shutil.which("nvidia-smi") is not None
