"""A folder with the files of a finished run → its data and models, ready to be analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness_plugin.analysis.loaded_models import FinishedTask
from harness_plugin.analysis.run_data import RunData, read_data
from harness_plugin.pipeline.run_task import context_of
from harness_plugin.plugins.registry import Plugins


def open_run(
    folder: Path,
    plugins: Plugins,
    *,
    started: str | None = None,
    tasks: Sequence[str] = (),
    machine: Mapping[str, Any] | None = None,
) -> list[FinishedTask]:
    """The tasks of a run; arguments and errors as of `read_data`."""
    every = read_data(folder, plugins, started=started, tasks=tasks, machine=machine)
    return [with_context(data, plugins) for data in every]


def with_context(data: RunData, plugins: Plugins) -> FinishedTask:
    """A task of a run with the context that it was run in, from which its models are loaded."""
    ctx = context_of(data.opened, data.config, plugins)
    return FinishedTask(ctx, data.models, data.started)
