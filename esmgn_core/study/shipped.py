"""Studies that come with esmgn."""

from __future__ import annotations

from pathlib import Path


def shipped_studies() -> dict[str, Path]:
    """The study files of esmgn, by name."""
    return {path.stem: path for path in sorted(Path(__file__).with_name("studies").glob("*.toml"))}
