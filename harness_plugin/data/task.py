"""A task: a frozen record read from a YAML file, with errors that name file and line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness_plugin.data.task_files import (
    NOT_OF_A_BASE,
    TaskRegistry,
    resource_path,
    task_files,
)
from harness_plugin.data.yaml_files import line_of, merge, read_yaml
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.store.keys import code_version, file_version

Source: TypeAlias = Literal["embedded", "hub", "own", "path"]


ANSWERS = {"label", "group", "attribute", "aligned"}
"""Columns of every split (`data.split`) that no model may see."""


class Option(BaseModel):
    """A setting of one task, given as `--set <task>.<option>=value`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Any
    help: str
    choices: tuple[Any, ...] | None = None


class HubSet(BaseModel):
    """The split of a hub data set that an evaluation set is, row for row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name")
    split: str
    config: str | None = None


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
    sources: dict[Source, str] = Field(
        min_length=1, description="'module:function' taking a DataRequest, by data source"
    )
    options: dict[str, Option] = Field(default_factory=dict)
    recipe: dict[Source | Literal["all"], dict[str, Any]] = Field(
        default_factory=dict, description="default run settings by source; 'all' applies first"
    )
    bias_features: str | None = Field(
        None, description="'module:function' taking a Split, returning (N, F) floats"
    )
    counterfactual: str | None = Field(
        None,
        description="'module:function' taking a Split and a random generator, returning the values "
        "of its inputs with another attribute, and these attributes",
    )
    attribute_region: dict[Source, str] = Field(
        default_factory=dict,
        description="'module:function' taking a DataRequest and a Split of its images, returning "
        "where the spurious attribute is seen, (N, H, W) or (H, W) booleans; by data source",
    )
    primary_gap: str | dict[str, str] | None = Field(
        None, description="the primary gap metric, or one for each evaluation set"
    )
    hub_sets: dict[str, HubSet] = Field(
        default_factory=dict,
        description="evaluation set -> the split of a hub data set that it is, row for row, with "
        "data from the hub and the default options",
    )
    citation: str = ""
    licence: str = ""
    base: str = Field("", description="task whose keys and options are the defaults of this one")
    file: str = Field("", description="where the task was read from; set by the loader")

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_input(cls, inputs: object) -> object:
        return (inputs,) if isinstance(inputs, str) else inputs

    @field_validator("inputs")
    @classmethod
    def _inputs_are_no_answers(cls, inputs: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(inputs)) != len(inputs):
            raise ValueError("a column is named twice")
        if answers := sorted(set(inputs) & ANSWERS):
            raise ValueError(f"{', '.join(answers)} is what a model is to find out, not an input")
        return inputs

    @property
    def default_source(self) -> Source:
        """The source of a run that names none: one from which nothing is fetched.

        Raises HarnessError for a task that has neither generated data nor a table of its own.
        """
        for source in ("embedded", "own"):
            if source in self.sources:
                return source
        raise HarnessError(
            f"task {self.task} has no data of its own: give --data "
            f"{' or --data '.join('DIR' if s == 'path' else s for s in self.sources)}."
        )

    def attribute_version(self, target: str) -> str:
        """The version of the code behind a "module:attribute" string of this task."""
        beside = Path(self.file).parent / f"{target.partition(':')[0]}.py" if self.file else None
        return file_version(beside) if beside and beside.is_file() else code_version(target)

    def code_targets(self, source: Source) -> tuple[str, ...]:
        """The "module:name" targets whose code decides what data a source gives.

        Without a module that lies beside the task's own file: it goes by no importable name.
        """
        target = self.sources.get(source, "")
        beside = Path(self.file).parent / f"{target.partition(':')[0]}.py" if self.file else None
        return () if not target or (beside and beside.is_file()) else (target,)

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
            elif of_python(module):  # os:system takes one argument as well
                raise ImportError(f"{module} is a part of Python, and brings no data")
            else:
                loaded = importlib.import_module(module)
            value = getattr(loaded, attribute)
        except (ImportError, AttributeError, ValueError) as error:  # ValueError: ":x" or "x:"
            raise HarnessError(f"{self.file}: cannot load {target!r}: {error}") from error
        if not callable(value) or of_python(getattr(value, "__module__", None) or ""):
            raise HarnessError(f"{self.file}: {target!r} is no function of a task.")
        return value

    def check_functions(self, source: Source) -> None:
        """Load every function that the task names for a source; HarnessError for one it cannot."""
        named = [self.sources.get(source), self.bias_features, self.counterfactual]
        for target in [*named, self.attribute_region.get(source)]:
            if target is not None:
                self.load_attribute(target)


def of_python(module: str) -> bool:
    """Whether a module is one of Python's own."""
    return module.partition(".")[0] in {*sys.stdlib_module_names, "builtins"}


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


def read_task(
    path: Path, registry: TaskRegistry | None = None, above: tuple[Path, ...] = ()
) -> Task:
    """The task in a YAML file; with `base`, over the keys and options of another.

    A base is a name in `registry`, or a YAML file beside this one. `above` are the files that
    are being read on top of this one.

    Raises HarnessError naming file, line and key for anything that is not a valid task.
    """
    value, node = read_yaml(path)
    options: Iterable[str] = ()
    if "base" in value:
        base = base_of(value["base"], path, line_of(node, ["base"]), registry, above)
        value, options = over_base(value, base, path, node), base.options
    try:
        return Task.model_validate({**value, "file": str(path)})
    except ValidationError as error:
        raise HarnessError(explain(error, path, node, options)) from None


def base_of(
    name: object, path: Path, line: int, registry: TaskRegistry | None, above: tuple[Path, ...]
) -> Task:
    """The task that the file `path` builds on."""
    here = f"{path}:{line}: base"
    if not isinstance(name, str):
        raise HarnessError(f"{here}: must be the name of a task or a YAML file, found {name!r}.")
    if name.endswith((".yaml", ".yml")):
        file = path.parent / name
        if file.resolve() in [p.resolve() for p in (*above, path)]:
            raise HarnessError(f"{here}: {name} would build on itself.")
        if file.parent.resolve() != path.parent.resolve():
            raise HarnessError(f"{here}: {name} must lie beside {path.name}, with its loader.")
        return read_task(file, registry, (*above, path))
    offers = registry.offers if registry is not None else {}
    if name not in offers:
        raise HarnessError(f"{here}: {unknown('task', name, offers)}")
    return read_task(resource_path(offers[name].target), registry, (*above, path))


def over_base(value: Mapping[str, Any], base: Task, path: Path, node: yaml.Node) -> dict[str, Any]:
    """The keys of `value` over those of `base`; an option's name sets the option's default."""
    out = base.model_dump(mode="json", exclude={*NOT_OF_A_BASE})
    merged = dict(value)
    for name in [key for key in merged if key in base.options]:
        choices = base.options[name].choices
        if choices is not None and merged[name] not in choices:
            raise HarnessError(
                f"{path}:{line_of(node, [name])}: {name}: must be one of "
                f"{', '.join(map(str, choices))}, found {merged[name]!r}."
            )
        out["options"][name]["default"] = merged.pop(name)
    return merge(out, merged)


def explain(
    error: ValidationError, path: Path, node: yaml.Node, options: Iterable[str] = ()
) -> str:
    """One line a problem: file, line, key, what is wrong with it; `options` are known keys too."""
    lines = []
    for problem in error.errors():
        where = [part for part in problem["loc"] if part != "[key]"]
        key = ".".join(str(part) for part in where) or "the file"
        line = line_of(node, where)
        known = (
            ", ".join([*Task.model_fields, *options])
            if problem["type"] == "extra_forbidden"
            else ""
        )
        hint = f" Known keys: {known}." if known and len(where) == 1 else ""
        lines.append(f"{path}:{line}: {key}: {problem['msg']}.{hint}")
    return "\n".join(lines)


def find_task(name: str, registry: TaskRegistry, include_path: Iterable[str] = ()) -> Task:
    """The task called `name`: a YAML file, one in a folder of `include_path`, or a registered one.

    Raises HarnessError for an unknown name, and for a name that stands in two places.
    """
    files = list(task_files(include_path))  # raises for a folder that is not there in any case
    if name.endswith((".yaml", ".yml")):
        return read_task(Path(name), registry)
    local = [read_task(path, registry) for path in files]
    matches = [task for task in local if task.task == name]
    places = [task.file for task in matches]
    if name in registry.offers:
        places.append(f"plugin {registry.offers[name].plugin!r}")
    if len(places) > 1:
        raise HarnessError(f"task {name!r} stands in {' and in '.join(places)}; rename one.")
    if matches:
        return matches[0]
    if not places:
        raise unknown("task", name, [*registry.offers, *(task.task for task in local)])
    return read_task(resource_path(registry.offers[name].target), registry)
