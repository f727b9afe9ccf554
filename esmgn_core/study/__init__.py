"""Studies: grids of runs over components, settings and seeds, with their tables and plots."""
