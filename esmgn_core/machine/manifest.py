"""Name of a store's manifest, in a module that does not import the store."""

from __future__ import annotations

STORE_MANIFEST = "store.json"
"""A folder with this file is a store of proteins."""
