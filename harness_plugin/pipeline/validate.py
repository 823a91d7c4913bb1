"""`harness validate`: open the data of a task, check them, and show who is in which cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness_plugin.config.merge import run_config
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.data.task import find_task
from harness_plugin.pipeline.open_task import open_task
from harness_plugin.plugins.registry import Plugins

FEW = 30
"""Test rows below which a group's accuracy says little."""


def validate(
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
    config = run_config(file, {"tasks": (task.task,), **flags}, sets)
    loaded = open_task(task, config).data
    console = Console()
    console.print(group_table(loaded))
    for note in loaded.notes:
        console.print(f"note: {note}", highlight=False)
    found = warnings(loaded, task.inputs)
    for warning in found:
        console.print(f"[yellow]warning[/]: {warning}", highlight=False)
    console.print(
        f"{task.task}: valid, {loaded.source} data, {len(found)} warning(s), "
        f"fingerprint {loaded.fingerprint[:12]}",
        highlight=False,
    )


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


def warnings(data: TaskData, inputs: Sequence[str]) -> list[str]:
    """What makes the numbers of this data weaker than they look."""
    out = []
    train = data.train
    for split in data.evaluation:
        for group, count in zip(split.groups, split.group_counts, strict=True):
            if count < FEW:
                out.append(f"{split.name}: group {group} has {count} rows, fewer than {FEW}")
            if group in train.groups and not train.group_counts[train.groups.index(group)]:
                out.append(f"{split.name}: group {group} never occurs in {train.name}")
    out += list(leaks(data, inputs))
    return out


def leaks(data: TaskData, inputs: Sequence[str]) -> Iterator[str]:
    """A warning for every two splits that share rows, inputs compared byte for byte.

    Two evaluation sets may be made of the same rows on purpose; they are not compared.
    """
    sources = [data.train, *([data.validation] if data.validation else [])]
    hashes = {s.name: stored_inputs(s, inputs) for s in (*sources, *data.evaluation)}
    for number, first in enumerate(sources):
        seen = set(hashes[first.name])
        for second in (*sources[number + 1 :], *data.evaluation):
            if shared := sum(row in seen for row in hashes[second.name]):
                yield f"{second.name}: {shared:,} rows also stand in {first.name}"


def stored_inputs(split: Split, inputs: Sequence[str]) -> list[bytes]:
    """(N,) a hash of the inputs of each row as they are stored; image files by their bytes."""
    table = split.rows.select_columns(list(inputs)).with_format("arrow")
    out = []
    for start in range(0, len(split), 1024):
        for row in table[start : start + 1024].to_pylist():
            digest = hashlib.sha256()
            for value in row.values():
                if isinstance(value, dict):  # an image: its bytes, or the file it lies in
                    value = value.get("bytes") or Path(value["path"]).read_bytes()
                digest.update(value if isinstance(value, bytes) else repr(value).encode())
            out.append(digest.digest())
    return out
