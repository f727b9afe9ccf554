"""Train, validate and resume runs."""
