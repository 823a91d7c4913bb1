"""Where task files lie, and what `harness ls tasks` shows of them, read without pydantic."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness_plugin.data.yaml_files import merge, read_yaml
from harness_plugin.errors import HarnessError

NOT_OF_A_BASE = ("task", "version", "base", "file", "hub_sets")
"""Keys that a task does not take over from the one that it builds on."""


class TaskOffer(Protocol):
    """One registered task: the "package:file.yaml" it is read from, and the plugin it is of."""

    @property
    def target(self) -> str: ...
    @property
    def plugin(self) -> str: ...


class TaskRegistry(Protocol):
    """The registered tasks by name."""

    @property
    def offers(self) -> Mapping[str, TaskOffer]: ...


class Listed(NamedTuple):
    """A task as it is listed; `sets` are those that its file names, its data may have more."""

    task: str
    modality: str
    sources: tuple[str, ...]
    sets: tuple[str, ...]
    summary: str


def resource_path(target: str) -> Path:
    """The file behind "package:file.yaml", or behind a plain path."""
    package, separator, name = target.partition(":")
    if not separator:
        return Path(target)
    return Path(next(iter(importlib.import_module(package).__path__)), name)


def task_files(include_path: Iterable[str]) -> Iterator[Path]:
    """The YAML files directly in each folder; HarnessError for a folder that does not exist."""
    for folder in include_path:
        if not Path(folder).is_dir():
            raise HarnessError(f"--include_path {folder}: no such folder.")
        yield from sorted([*Path(folder).glob("*.yaml"), *Path(folder).glob("*.yml")])


def listed(path: Path, registry: TaskRegistry) -> Listed | None:
    """What is listed of the task in a file; None where `read_task` is to say what is wrong."""
    try:
        value = value_of(path, registry)
        sources, sets = value["sources"], named_sets(value)
        row = Listed(value["task"], value["modality"], (*sources,), sets, value["summary"])
    except (KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = (row.task, row.modality, row.summary, *row.sources)
    return row if all(isinstance(text, str) for text in texts) else None


def value_of(path: Path, registry: TaskRegistry) -> dict[str, Any]:
    """The mapping in a task's file over that of its base, not checked."""
    value, _ = read_yaml(path)
    if "base" not in value:
        return value
    name = value["base"]
    beside = name.endswith((".yaml", ".yml"))
    file = path.parent / name if beside else resource_path(registry.offers[name].target)
    base = value_of(file, registry)
    return merge({key: base[key] for key in base if key not in NOT_OF_A_BASE}, value)


def named_sets(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The evaluation sets that `primary_gap` and `hub_sets` of a task name."""
    gaps, hub = value.get("primary_gap"), value.get("hub_sets")
    return tuple(dict.fromkeys([*(gaps if isinstance(gaps, Mapping) else {}), *(hub or {})]))
