"""The tasks this distribution ships: a folder with a YAML file of its name is a task."""

import re
from pathlib import Path

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

SUMMARY = re.compile(r"""^summary: (["']?)(?P<line>[^>|\n].*)\1$""", re.MULTILINE)


@hookimpl
def register_tasks(register: Register) -> None:
    """Offer the built-in tasks, with the summaries of their YAML files."""
    for file in sorted(Path(__file__).parent.glob("*/*.yaml")):
        name = file.stem
        if file.parent.name == name:
            register(name, f"{__name__}.{name}:{file.name}", summary=summary_of(file))


def summary_of(file: Path) -> str:
    """The line `summary:` of a task's file, read as text: a YAML parser would slow every start.

    Raises ValueError for a file whose summary is not one plain or quoted line.
    """
    line = SUMMARY.search(file.read_text(encoding="utf-8"))
    if line is None:
        raise ValueError(f"{file}: needs `summary: …` on one line.")
    return line["line"]
