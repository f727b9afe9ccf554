"""Calibrated predictions of a fine-tuned run."""
