"""The layout of a results folder: which files are a run's, and which run a folder holds.

    <folder>/transfer_<task>_<time>.json       all roles of a task; what makes a folder a run's
             config_<time>.yaml                the resolved configuration
             scores_<time>.csv, .parquet       every number, one a row
             predictions_<task>_<set>_<time>.csv   the answers, when they were asked for
             models/<model>/results_<time>.json    one model's numbers (and its samples)

Outputs that a run writes only when they are named have folders of their own beside these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness_plugin.errors import HarnessError, unknown

RECORD = re.compile(r"transfer_(?P<task>[a-z0-9_]+)_(?P<time>\d{4}-[0-9T.-]+)\.json")
MODELS = "models"
"""The folder of what is written model by model."""


def run_times(folder: Path) -> Sequence[str]:
    """When the runs started whose records lie in `folder`, sorted."""
    matches = (RECORD.fullmatch(file.name) for file in folder.iterdir())
    return sorted({match["time"] for match in matches if match})


def run_folder(path: Path) -> Path:
    """The folder of one run: `path`, or the only folder in it that holds one.

    Raises HarnessError for a folder without a run, and for one with several folders of runs.
    """
    if not path.is_dir():
        raise HarnessError(
            f"{path}: expected the results folder of a run, there is no such folder."
        )
    if run_times(path):
        return path
    runs = sorted(
        (times[-1], each) for each in path.iterdir() if each.is_dir() and (times := run_times(each))
    )
    if not runs:
        raise HarnessError(
            f"{path}: no transfer_*.json; expected the results folder of a run, or one that holds "
            f"it."
        )
    if len(runs) > 1:
        raise HarnessError(
            f"{path} holds {len(runs)} runs, each in a folder of its own; name one, "
            f"e.g. the newest: {runs[-1][1]}."
        )
    return runs[0][1]


def start_of(folder: Path, started: str | None) -> str:
    """When the run started whose files are taken from `folder`: `started`, or the only one.

    Raises HarnessError as `run_folder`, and for several runs with their files side by side.
    """
    times = run_times(run_folder(folder))
    if started is None and len(times) > 1:
        raise HarnessError(f"{folder} holds several runs; take one with --started {times[-1]}.")
    if started is not None and started not in times:
        raise unknown(f"run in {folder}", started, times)
    return started or times[0]
