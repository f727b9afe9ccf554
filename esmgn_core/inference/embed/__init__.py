"""Embedding files: written, read and searched."""
