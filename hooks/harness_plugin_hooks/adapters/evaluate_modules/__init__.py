"""Metrics as modules of the `evaluate` library: `evaluate.load(f"{folder()}/group_accuracy")`."""

from pathlib import Path


def folder() -> Path:
    """Where the modules lie, one folder each."""
    return Path(__file__).parent
