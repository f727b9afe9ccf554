"""The machine a program runs on: its files and child processes."""
