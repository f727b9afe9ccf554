"""What commands to suggest on this machine."""

from __future__ import annotations

import shutil
import sys


def has_gpu() -> bool:
    """True if this machine has an NVIDIA GPU; torch is used only if it is loaded already."""
    torch = sys.modules.get("torch")
    return bool(torch.cuda.is_available()) if torch else shutil.which("nvidia-smi") is not None


def suggested_encoder() -> str:
    """The published ESM-2 to suggest: 650 million parameters on a GPU, 8 million without one."""
    return "esm2_650m" if has_gpu() else "esm2_8m"
