"""What ``make`` prints before it installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["run", "test", "test-fast"])
def test_installing_is_announced_with_time_and_size(target: str, tmp_path: Path) -> None:
    command = ["make", "--dry-run", "--directory", str(ROOT), target, f"VENV={tmp_path / 'venv'}"]
    planned = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before = planned.partition("pip install")[0]
    assert "installing esmgn into" in before
    assert "minutes; 2 GB on disk, 8 GB" in before
