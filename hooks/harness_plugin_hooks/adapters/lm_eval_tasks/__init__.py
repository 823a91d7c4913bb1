"""Our text tasks as YAML files for lm-evaluation-harness: one file an evaluation set."""

from pathlib import Path


def folder() -> Path:
    """What `--include_path` takes."""
    return Path(__file__).parent
