"""`harness validate`: open the data of a task, check them, and show who is in which cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from harness_plugin.config.merge import run_config
from harness_plugin.data.dataset import TaskData
from harness_plugin.data.task import find_task
from harness_plugin.machine.terminal import say_styled, show_table
from harness_plugin.pipeline.prepare.open_task import check_gaps, open_task, warnings
from harness_plugin.plugins.registry import Plugins


def validate_task(
    name: str,
    flags: Mapping[str, Any],
    plugins: Plugins,
    include_path: Sequence[str],
    file: Path | None,
    sets: Sequence[str],
) -> None:
    """Load one task and print its group table and warnings. Raises HarnessError when it is bad.

    `flags`, the run file `file` and `sets` say which data, as those of a run do.
    """
    task = find_task(name, plugins["task"], include_path)
    check_gaps(task, plugins)
    config = run_config(file, {"tasks": (task.task,), **flags}, sets)
    loaded = open_task(task, config).data
    if task.modality == "image":
        from harness_plugin.pipeline.prepare.open_images import check_images

        check_images(loaded, task.inputs[0], quiet=not sys.stderr.isatty())
    show_table(group_table(loaded))
    for note in loaded.notes:
        print(f"note: {note}")
    messages = warnings(loaded, task.inputs)
    for warning in messages:
        say_styled(f"warning: {warning}", "yellow")
    print(
        f"{task.task}: valid, {loaded.source} data, {counted(len(messages), 'warning')}, "
        f"fingerprint {loaded.fingerprint[:12]}"
    )


def counted(n: int, what: str) -> str:
    """`1 warning`, `2 warnings`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def group_table(data: TaskData) -> Table:
    """Rows of every group in every split."""
    splits = list(data.splits.values())
    table = Table(title="rows by group", title_justify="left")
    table.add_column("group")
    for split in splits:
        table.add_column(f"{split.name} ({split.purpose})", justify="right")
    for group in dict.fromkeys(name for split in splits for name in split.groups):
        cells = []
        for split in splits:
            known = group in split.groups
            count = split.group_counts[split.groups.index(group)] if known else None
            cells.append("" if count is None else f"{count:,}")
        table.add_row(group, *cells)
    table.add_section()
    table.add_row("all", *(f"{len(split):,}" for split in splits))
    table.add_row("no label, dropped", *(f"{split.dropped:,}" for split in splits))
    return table
