"""Scores of mutations, and their correlation with measurements."""
