"""`harness ls`: names and one line of help each."""

from __future__ import annotations

from harness_plugin.cli.parser import Parser
from harness_plugin.cli.startup import installed_plugins
from harness_plugin.errors import unknown

KINDS = {
    "tasks": "task",
    "methods": "method",
    "bias_models": "bias_model",
    "group_inferences": "group_inference",
    "distillers": "distiller",
    "augmentations": "augmentation",
    "compressors": "compressor",
    "remedies": "remedy",
    "backbones": "backbone",
    "metrics": "metric",
    "analyses": "analysis",
    "outputs": "output",
    "commands": "command",
}
"""What can be listed, and the kind that plugins register it as."""


def list_names(argv: list[str]) -> int:
    """Print every name of a kind, sorted."""
    parser = Parser(prog="harness ls", description="List what is installed.", allow_abbrev=False)
    parser.add_argument("kind", metavar="|".join([*KINDS, "plugins"]))
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
    if args.include_path and args.kind == "tasks":
        from harness_plugin.data.task import read_task, task_files

        tasks = [read_task(p, plugins["task"]) for p in task_files(args.include_path)]
        rows = sorted(rows + [(task.task, task.summary) for task in tasks])
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")
    return 0
