"""Contracts of esmgn: what a plugin needs to declare components, without importing torch."""

from esmgn_core.errors import EsmgnError
from esmgn_core.hooks import hookimpl
from esmgn_core.spec import ComponentSpec, Kind

__version__ = "0.1.0"

__all__ = ["ComponentSpec", "EsmgnError", "Kind", "__version__", "hookimpl"]
