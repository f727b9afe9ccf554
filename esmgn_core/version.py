"""Version of esmgn, read by the build and recorded in every run and file."""

__version__ = "0.1.0"
"""Version of the package."""
