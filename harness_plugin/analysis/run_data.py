"""A folder with the files of a finished run → its configuration, data and record of models.

No model is loaded, and nothing that could load one is imported: a report needs the data alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.config.merge import run_config
from harness_plugin.config.run_config import RunConfig
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.pipeline.prepare.open_task import OpenTask, load_tasks
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records.run_folder import run_folder, start_of
from harness_plugin.scoring.files.transfer_record import read_record


@dataclass(frozen=True)
class RunData:
    """One task of a finished run: its data, which are those of the run, and its configuration.

    `models` are as the run recorded them; `started` stands in the names of the run's files.
    """

    opened: OpenTask
    config: RunConfig
    models: tuple[dict[str, Any], ...]
    started: str


def read_data(
    folder: Path,
    plugins: Plugins,
    *,
    started: str | None = None,
    tasks: Sequence[str] = (),
    machine: Mapping[str, Any] | None = None,
) -> list[RunData]:
    """The tasks of the run in `folder` (of several, the one that `started`); `tasks` = only these.

    `machine` overrides where it is read on: device, threads. Raises HarnessError for a folder
    without a run, and for data that are no longer those of the run.
    """
    folder = run_folder(folder)
    time = start_of(folder, started)
    written = folder / f"config_{time}.yaml"
    if not written.is_file():
        raise HarnessError(f"{folder}: {written.name} is gone, without which no data can be read.")
    overrides = {name: value for name, value in (machine or {}).items() if value is not None}
    config = run_config(written, overrides, [])
    records = {
        record["task"]: record
        for file in sorted(folder.glob(f"transfer_*_{time}.json"))
        for record in [read_record(file).model_dump(mode="json")]
    }
    for task in tasks:
        if task not in records:
            raise unknown(f"task of the run in {folder}", task, records)
    return data_of(config, plugins, records, tasks, time)


def data_of(
    config: RunConfig,
    plugins: Plugins,
    records: Mapping[str, Any],
    tasks: Sequence[str],
    started: str,
) -> list[RunData]:
    """The tasks that are asked for, their data compared with what the run recorded."""
    known = {name: find_task(name, plugins["task"], config.include_path) for name in config.tasks}
    names = tuple(name for name in config.tasks if not tasks or known[name].task in tasks)
    left = {known[name].task for name in config.tasks if name not in names}
    kept = {key: value for key, value in config.settings.items() if key not in left}
    config = config.model_copy(update={"tasks": names, "settings": kept})
    out = []
    for opened in load_tasks(config, plugins):
        name, data = opened.task.task, opened.data
        record = records[name]
        if data.fingerprint != record["fingerprint"]:
            raise HarnessError(
                f"task {name}: the data have changed since the run (fingerprint "
                f"{data.fingerprint[:12]}, the run's {record['fingerprint'][:12]}); run it again."
            )
        out.append(RunData(opened, config, tuple(record["models"]), started))
    return out
