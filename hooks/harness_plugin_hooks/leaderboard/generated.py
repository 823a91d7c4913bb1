"""Rows that this software generates are recognised, whatever a bundle calls their source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin_hooks.leaderboard.bundle import Problem

if TYPE_CHECKING:
    from harness_plugin.data.dataset import TaskData

SHARE = 0.9
"""Of a set's rows that are generated ones, by id and gold label, from which on the set is."""
LARGEST = 200_000
"""No option of a stranger's configuration makes more rows than this here."""


def generated_rows(
    record: TransferRecord, predictions: Sequence[Predictions], plugins: Plugins
) -> Iterator[Problem]:
    """Sets that are called real and are those of the task's own generator."""
    if record.source == "embedded" or record.task not in plugins["task"]:
        return
    first = {p.split: p for p in predictions}
    for data in candidates(record, plugins):
        for split in data.splits.values():
            p = first.get(split.name)
            if p is None:
                continue
            labels = dict(zip(map(str, split.ids), split.label.tolist(), strict=True))
            names = [split.labels.index(n) if n in split.labels else -2 for n in p.labels]
            same = sum(
                labels.get(str(name)) == names[label]
                for name, label in zip(p.ids, p.label.tolist(), strict=True)
            )
            if same >= SHARE * len(p):
                yield Problem(
                    f"tasks/{record.task}/results.json, source",
                    "embedded, for rows that this software generates",
                    f"{record.source}: {same:,} of {len(p):,} rows of {split.name} are such",
                )
                return


def candidates(record: TransferRecord, plugins: Plugins) -> Iterator[TaskData]:
    """Generated data: with the configuration's options and seed, and with the task's own."""
    from harness_plugin.data.dataset import load_data
    from harness_plugin.data.task import find_task

    task = find_task(record.task, plugins["task"])
    if "embedded" not in task.sources:
        return
    settings = record.config.get("settings")
    own = settings.get(record.task) if isinstance(settings, Mapping) else None
    options: Any = own.get("options") if isinstance(own, Mapping) else None
    values: dict[str, Any] = dict(options) if isinstance(options, Mapping) else {}
    numbers = [value for value in values.values() if isinstance(value, (int, float))]
    if any(not abs(value) <= LARGEST for value in numbers):
        values = {}
    seed = record.config.get("data_seed", 0)
    for chosen in (values, {}) if values else ({},):
        try:
            yield load_data(task, "embedded", options=chosen, seed=int(seed))
        except (HarnessError, ValueError, TypeError):  # options that no run could have had
            continue
