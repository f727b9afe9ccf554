"""Installed plugins, presets, and the configuration of a run."""
