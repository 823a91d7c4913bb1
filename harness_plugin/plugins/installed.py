"""The entry points of a group, read without importlib.metadata where that is possible.

It takes 80 ms of every command: half for what it imports (`email` among others), half to parse
the entry points of all groups that any distribution declares. `harness ls tasks` takes 105 ms
without it; with it .011 of what `lm_eval ls tasks` takes, where .01 is the goal, and
`harness --help` half of lm_eval's instead of a fifth (bench/startup.py).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any

FILE = "entry_points.txt"


@dataclass(frozen=True)
class Entry:
    """One entry point: its name, its `module` or `module:attribute`, who declares it."""

    name: str
    value: str
    distribution: str = ""
    """"" for a plugin that no distribution declares."""

    def load(self) -> Any:
        """Import the module and return it, or its attribute."""
        module, _, attribute = self.value.partition("[")[0].partition(":")
        thing: Any = importlib.import_module(module.strip())
        for part in filter(None, attribute.strip().split(".")):
            thing = getattr(thing, part)
        return thing

    @property
    def origin(self) -> str:
        """Its distribution with the version, for people."""
        if not self.distribution:
            return "an unknown distribution"
        from importlib.metadata import distribution

        known = distribution(self.distribution)
        return f"{known.name} {known.version}"


def entry_points(group: str) -> list[Entry]:
    """What the installed distributions declare in `group`, as importlib.metadata gives it.

    Where a distribution stands in several folders of `sys.path`, the first counts.
    """
    if not (all(map(is_folder, sys.path)) and all(map(is_usual, sys.meta_path))):
        from importlib import metadata

        declared = metadata.entry_points(group=group)
        return [
            Entry(each.name, each.value, each.dist.name if each.dist else "") for each in declared
        ]
    entries: list[Entry] = []
    seen = set()
    for place in filter(os.path.isdir, [path or "." for path in dict.fromkeys(sys.path)]):
        for folder in os.listdir(place):
            stem, _, end = folder.rpartition(".")
            if end.lower() not in ("dist-info", "egg-info"):
                continue
            name = normalised(stem.partition("-")[0])
            if name not in seen:
                seen.add(name)
                text = text_of(os.path.join(place, folder, FILE))
                entries += [Entry(*pair, name) for pair in pairs_of(text, group)]
    return entries


def normalised(name: str) -> str:
    """The name of a distribution as PEP 503 spells it."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


def is_folder(path: str) -> bool:
    """Whether an item of `sys.path` is a folder, or nothing: no archive, no egg."""
    return not (path.lower().endswith(".egg") or os.path.isfile(path))


def is_usual(finder: object) -> bool:
    """Whether an item of `sys.meta_path` finds no distributions that `sys.path` does not hold."""
    return finder is PathFinder or not hasattr(finder, "find_distributions")


def text_of(path: str) -> str:
    """Content of a file; "" where it cannot be read: most distributions declare nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def pairs_of(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Names and values in the section `group` of an entry_points.txt."""
    if group not in text:
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()
