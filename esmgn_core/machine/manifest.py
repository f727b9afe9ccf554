"""What tells a store from a folder of structures, known without importing stores."""

from __future__ import annotations

STORE_MANIFEST = "store.json"
"""File that makes a folder a store of proteins."""
