"""`harness ls`: names and one line of help each; of tasks their data and sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import KINDS, installed_plugins
from harness_plugin.errors import unknown

if TYPE_CHECKING:
    from pathlib import Path

    from harness_plugin.data.task_files import Listed
    from harness_plugin.plugins.registry import Plugins, Registry


def list_names(argv: list[str]) -> int:
    """Print every name of a kind, sorted."""
    parser = Parser("harness ls", description="List what is installed.")
    parser.add_argument("kind", metavar="KIND", help=", ".join([*KINDS, "plugins"]))
    parser.add_argument("--include_path", action="append", default=[], metavar="DIR")
    args = parser.parse_args(argv)
    if args.kind not in [*KINDS, "plugins"]:
        raise unknown("kind of thing to list", args.kind, [*KINDS, "plugins"])
    plugins = installed_plugins()
    if args.kind == "plugins":
        rows = [
            (name, "blocked" if plugin is None else str(getattr(plugin, "__name__", plugin)))
            for name, plugin in sorted(plugins.manager.list_name_plugin())
        ]
        rows += [(broken.name, f"BROKEN: {broken.reason}") for broken in plugins.broken]
    else:
        rows = [(offer.name, offer.summary) for offer in plugins[KINDS[args.kind]]]
    if args.kind == "tasks":
        print(*in_columns(task_rows(plugins, args.include_path)), sep="\n")
    else:
        print(*in_columns(rows), sep="\n")
    return 0


def task_rows(plugins: Plugins, include_path: Sequence[str]) -> Iterator[Sequence[str]]:
    """A row a task, with modality, sources and evaluation sets, below the headings."""
    from harness_plugin.data.task_files import resource_path, task_files

    files = [resource_path(offer.target) for offer in plugins["task"]]
    rows = [row_of(file, plugins["task"]) for file in (*files, *task_files(include_path))]
    yield "task", "modality", "sources", "sets", "summary"
    for row in sorted(rows):
        sets = ",".join(row.sets) or "those of its data"
        yield row.task, row.modality, ",".join(row.sources), sets, row.summary


def row_of(file: Path, registry: Registry) -> Listed:
    """The task in a file as it is listed; HarnessError as of `read_task`."""
    from harness_plugin.data.task_files import Listed, listed, named_sets

    if row := listed(file, registry):
        return row
    from harness_plugin.data.task import read_task  # with pydantic, which says what is wrong

    task = read_task(file, registry)
    sets = named_sets({"primary_gap": task.primary_gap, "hub_sets": task.hub_sets})
    return Listed(task.task, task.modality, (*task.sources,), sets, task.summary)


def in_columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines whose cells stand below one another; the last cell is as long as it is."""
    kept = list(rows)
    widths = [max(map(len, cells)) for cells in zip(*kept, strict=True)][:-1]
    for *cells, last in kept:
        yield "  ".join([*(f"{c:{w}}" for c, w in zip(cells, widths, strict=True)), last])
