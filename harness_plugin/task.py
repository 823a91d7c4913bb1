"""What a task is: a frozen record read from a YAML file, with errors that name file and line."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness_plugin.errors import HarnessError, unknown

if TYPE_CHECKING:
    from harness_plugin.plugins import Registry

SOURCES = ("embedded", "hub", "path")


class Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans: 1e-3 is no text, and the label (or precision) `no` is."""


Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Option(BaseModel):
    """A setting of one task, given as `--set <task>.<option>=value`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Any
    help: str
    choices: tuple[Any, ...] | None = None


class Task(BaseModel):
    """One bias benchmark: where its data come from and how it is trained by default.

    Functions are "module:attribute" strings, so that reading a task imports nothing heavy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="name used on the command line")
    version: int = Field(1, ge=1, description="raise it when numbers stop being comparable")
    summary: str = Field(description="one line for `harness ls tasks`")
    bias: str = Field(description="what the spurious cue is, in words")
    modality: Literal["text", "image"]
    inputs: tuple[str, ...] = Field(min_length=1, description="input columns of every split")
    sources: dict[Literal["embedded", "hub", "path"], str] = Field(
        min_length=1, description="'module:function' taking a DataRequest, by data source"
    )
    options: dict[str, Option] = Field(default_factory=dict)
    recipe: dict[Literal["embedded", "hub", "path", "all"], dict[str, Any]] = Field(
        default_factory=dict, description="default run settings by source; 'all' applies first"
    )
    bias_features: str | None = Field(
        None, description="'module:function' taking a Split, returning (N, F) floats"
    )
    primary_gap: str | dict[str, str] | None = Field(
        None, description="the gap metric its story is told with, or one for each evaluation set"
    )
    citation: str = ""
    licence: str = ""
    file: str = Field("", description="where the task was read from; set by the loader")

    def load_attribute(self, target: str) -> Any:
        """The object behind a "module:attribute" string of this task.

        A module that lies beside the task's own file is found as well, so that a task outside
        any package can bring its loader.
        """
        module, _, attribute = target.partition(":")
        beside = Path(self.file).parent / f"{module}.py" if self.file else None
        try:
            if beside and beside.is_file():
                loaded = import_file(beside)
            else:
                loaded = importlib.import_module(module)
            return getattr(loaded, attribute)
        except (ImportError, AttributeError) as error:
            raise HarnessError(f"{self.file}: cannot load {target!r}: {error}") from error


def import_file(path: Path) -> Any:
    """The module in `path`, imported once under a name of its own."""
    name = f"harness_plugin_task_file_{path.parent.name}_{path.stem}"
    if (loaded := sys.modules.get(name)) and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # half a module must not be found the next time
        del sys.modules[name]
        raise
    return module


def resource_path(target: str) -> Path:
    """The file behind "package:file.yaml", or behind a plain path."""
    package, separator, name = target.partition(":")
    if not separator:
        return Path(target)
    return Path(str(importlib.resources.files(package).joinpath(name)))


def read_task(path: Path) -> Task:
    """The task in a YAML file.

    Raises HarnessError naming file, line and key for anything that is not a valid task.
    """
    text, node = read_yaml(path)
    try:
        return Task.model_validate({**text, "file": str(path)})
    except ValidationError as error:
        raise HarnessError(explain(error, path, node)) from None


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    """The mapping in a YAML file and its node tree (for line numbers)."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=Loader)
        value = yaml.load(text, Loader=Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise HarnessError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    if not isinstance(value, dict) or node is None:
        raise HarnessError(f"{path}:1: must be a YAML mapping, found {type(value).__name__}.")
    return value, node


def explain(error: ValidationError, path: Path, node: yaml.Node) -> str:
    """One line a problem: file, line, key, what is wrong with it."""
    lines = []
    for problem in error.errors():
        where = [part for part in problem["loc"] if part != "[key]"]
        key = ".".join(str(part) for part in where) or "the file"
        line = line_of(node, where)
        known = ", ".join(Task.model_fields) if problem["type"] == "extra_forbidden" else ""
        hint = f" Known keys: {known}." if known and len(where) == 1 else ""
        lines.append(f"{path}:{line}: {key}: {problem['msg']}.{hint}")
    return "\n".join(lines)


def line_of(node: yaml.Node, where: list[int | str]) -> int:
    """The 1-based line of the deepest key of `where` that exists under `node`."""
    line = node.start_mark.line + 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def find_task(name: str, registry: Registry, include_path: Iterable[str] = ()) -> Task:
    """The task called `name`: a YAML file, one in a folder of `include_path`, or a registered one.

    Raises HarnessError for an unknown name, and for a name that stands in two places.
    """
    if name.endswith((".yaml", ".yml")):
        return read_task(Path(name))
    local = [read_task(path) for path in task_files(include_path)]
    found = [task for task in local if task.task == name]
    places = [task.file for task in found]
    if name in registry:
        places.append(f"plugin {registry.offer(name).plugin!r}")
    if len(places) > 1:
        raise HarnessError(f"task {name!r} stands in {' and in '.join(places)}; rename one.")
    if found:
        return found[0]
    if not places:
        raise unknown("task", name, [*registry.offers, *(task.task for task in local)])
    return read_task(resource_path(registry.offer(name).target))


def task_files(include_path: Iterable[str]) -> Iterator[Path]:
    """The YAML files directly in each folder; HarnessError for a folder that does not exist."""
    for folder in include_path:
        if not Path(folder).is_dir():
            raise HarnessError(f"--include_path {folder}: no such folder.")
        yield from sorted([*Path(folder).glob("*.yaml"), *Path(folder).glob("*.yml")])
