"""Version of esmgn, recorded in every run and file."""

__version__ = "0.1.0"
"""Version of the package."""
