"""Scores of mutations and their comparison with measured ones."""
