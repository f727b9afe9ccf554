"""What is installed: hooks, registry, presets, and the configuration of a run."""
