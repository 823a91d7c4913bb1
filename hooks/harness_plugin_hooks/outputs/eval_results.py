"""hub_<time>/<model>/.eval_results/<task>.yaml: numbers for the hub's own leaderboards.

An entry speaks of a data set on the hub, so that there is one only where an evaluation set is a
split of it, row for row: data from the hub, the task's default options, no limit. Embedded data and
local copies have none, and then no file is written. `task_id` is `<set>_<metric>`; the hub shows it
if the data set is registered there as a benchmark with that name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness_plugin import __version__
from harness_plugin.records import RunReport
from harness_plugin.store.files import write_text
from harness_plugin_hooks.outputs.each_model import Evaluated, each_model, set_name
from harness_plugin_hooks.outputs.model_card import upload_folder

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry


def write(report: RunReport, folder: Path) -> list[Path]:
    """One file a model, where there is something to write."""
    from huggingface_hub import eval_result_entries_to_yaml

    files = []
    for evaluated in each_model(report):
        if results := list(entries(report, evaluated)):
            target = upload_folder(report, folder, evaluated) / ".eval_results"
            target.mkdir(parents=True, exist_ok=True)
            file = target / f"{evaluated.scores.task}.yaml"
            write_text(file, yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False))
            files.append(file)
    return files


def entries(report: RunReport, evaluated: Evaluated) -> Iterator[EvalResultEntry]:
    """One entry a set and metric; an undefined number has none."""
    from huggingface_hub import EvalResultEntry

    model, scores = evaluated.model, evaluated.scores
    moment = datetime.fromtimestamp(report.started, tz=UTC)
    for p in evaluated.predictions:
        if hub := scores.hub_sets.get(p.split):
            for number in evaluated.numbers(p.split):
                if number.group or math.isnan(number.value):
                    continue
                yield EvalResultEntry(
                    dataset_id=hub.id,
                    task_id=f"{set_name(p)}_{number.name}",
                    value=number.value,
                    date=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    notes=f"fraction; {model.role}, method {model.method}, seed "
                    f"{model.seed}; split {hub.split}; 95% interval {number.low:.6f} to "
                    f"{number.high:.6f} over rows; harness-plugin {__version__}",
                )
