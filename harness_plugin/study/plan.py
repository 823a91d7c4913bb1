"""A study's YAML file → its factors, its configurations, and what the machine is asked for."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from harness_plugin.config.fields import Seed, Strict
from harness_plugin.config.merge import merge_settings, parse_assignments
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import TaskSettings
from harness_plugin.data.yaml_files import line_of, read_yaml
from harness_plugin.errors import HarnessError, unknown

TASK, SEED = "task", "seed"
"""The factors that every study has."""

OWN = (
    "tasks",
    "seeds",
    "settings",
    "output_path",
    "use_cache",
    "eval_only",
    "log_with",
    "analyze",
    "workers",
)
"""Run settings that a study sets itself, or that make no sense in one."""


class Resources(Strict):
    """Resources of one training on the machine that runs it (Ray); processes are Accelerate's."""

    cpus: float = Field(1, gt=0, description="CPU cores")
    gpus: float = Field(0, ge=0, description="GPUs, or a share of one")
    memory: str | None = Field(None, pattern=r"^\d+(\.\d+)? ?[MGT]iB$", description="'4 GiB'")
    processes: int = Field(1, ge=1, description="processes of one training, through Accelerate")

    @property
    def memory_bytes(self) -> int | None:
        """`memory` as a number."""
        if self.memory is None:
            return None
        number, unit = self.memory[:-3].strip(), self.memory[-3:]
        return int(float(number) * 1024 ** {"MiB": 2, "GiB": 3, "TiB": 4}[unit])


class StudyFile(Strict):
    """The fields of a study's file."""

    study: str = Field(pattern=r"^[a-z0-9_]+$", description="its name: files are called after it")
    summary: str = Field("", description="one line: the question")
    tasks: tuple[str, ...] = Field(min_length=1, description="the factor `task`")
    seeds: tuple[Seed, ...] = Field(min_length=1, description="the factor `seed`")
    run: dict[str, Any] = Field(default_factory=dict, description="settings of every run")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="task settings, for all tasks or under a task's name"
    )
    factors: dict[str, list[Any] | dict[str, dict[str, Any] | None]] = Field(
        default_factory=dict,
        description="the grid: values of the setting of that name, or level -> settings",
    )
    leave_out: list[dict[str, Any]] = Field(
        default_factory=list, description="cells of the grid that are left out: {task: hans}"
    )
    cells: list[dict[str, Any]] = Field(
        default_factory=list, description="cells that are added: a level of every factor"
    )
    retries: int = Field(1, ge=0, description="how often a training that failed is tried again")
    resources: Resources = Resources()
    resources_of: dict[str, Resources] = Field(
        default_factory=dict, description="other resources of some roles: {teacher: {gpus: 1}}"
    )
    format: Literal[1] = 1

    @field_validator("seeds", "tasks")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("one is given twice")
        return values


@dataclass(frozen=True)
class Level:
    """One value of a factor: its name in tables, and the settings it stands for."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Factor:
    """A setting that is varied, and its levels."""

    name: str
    levels: tuple[Level, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its levels."""
        return tuple(level.name for level in self.levels)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A cell without its seed: `levels` are indices, the task's first, then every factor's."""

    levels: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """A plan, checked: every name in it exists in it."""

    file: Path
    plan: StudyFile
    factors: tuple[Factor, ...]
    configurations: tuple[Configuration, ...]

    @property
    def name(self) -> str:
        """The study's."""
        return self.plan.study

    def task_of(self, configuration: Configuration) -> str:
        """Its task, as the file names it."""
        return self.plan.tasks[configuration.levels[0]]

    def levels_of(self, configuration: Configuration) -> dict[str, str]:
        """Factor -> level, the task first."""
        pairs = zip(self.factors, configuration.levels[1:], strict=True)
        return {TASK: self.task_of(configuration)} | {
            factor.name: factor.levels[index].name for factor, index in pairs
        }

    def id_of(self, configuration: Configuration) -> str:
        """12 hex digits of its levels: the same in every study that has the same ones."""
        text = json.dumps(self.levels_of(configuration), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def settings_of(self, configuration: Configuration) -> dict[str, Any]:
        """Task settings as a run file has them: the study's, then every level's, later wins."""
        merged = dict(self.plan.settings)
        for factor, index in zip(self.factors, configuration.levels[1:], strict=True):
            merged = merge_settings(merged, factor.levels[index].settings)
        task = self.task_of(configuration)
        other = set(self.plan.tasks) - {task}
        return {key: value for key, value in merged.items() if key not in other}

    def run_of(self, configuration: Configuration, seeds: Sequence[int]) -> dict[str, Any]:
        """The fields of a `RunConfig` for some seeds of a configuration."""
        return {
            **self.plan.run,
            "tasks": (self.task_of(configuration),),
            "seeds": tuple(seeds),
            "settings": self.settings_of(configuration),
        }

    @property
    def cells(self) -> int:
        """How many runs of one seed there are."""
        return sum(len(one.seeds) for one in self.configurations)


def read_study(file: Path, assignments: Sequence[str] = (), seeds: tuple[int, ...] = ()) -> Study:
    """The study in `file`; `assignments` (key=value) change its settings, `seeds` replace its.

    Raises HarnessError naming file and line for what is no plan, and near matches for a factor, a
    level, a setting or a run setting that does not exist.
    """
    value, node = read_yaml(file)
    if seeds:
        value["seeds"] = list(seeds)
    if assignments:
        value["settings"] = merge_settings(
            value.get("settings") or {}, parse_assignments(assignments)
        )
    for key in value:
        if key not in StudyFile.model_fields:
            raise unknown(f"key of {file}:{line_of(node, [key])}", key, StudyFile.model_fields)
    try:
        plan = StudyFile.model_validate(value)
    except ValidationError as error:
        lines = [
            f"{file}:{line_of(node, list(p['loc']))}: {'.'.join(map(str, p['loc']))}: {p['msg']}."
            for p in error.errors()
        ]
        raise HarnessError("\n".join(lines)) from None

    def where(*keys: int | str) -> str:
        return f"{file}:{line_of(node, list(keys))}"

    for key in plan.run:
        known = [name for name in RunConfig.model_fields if name not in OWN]
        if key not in known:
            raise unknown(f"run setting in {where('run', key)}", key, known)
    factors = tuple(
        factor_of(name, levels, where("factors", name)) for name, levels in plan.factors.items()
    )
    return Study(file, plan, factors, tuple(expanded(plan, factors, where)))


def factor_of(name: str, levels_or_values: list[Any] | dict[str, Any], where: str) -> Factor:
    """A factor: a list holds values of the setting that it is named for."""
    if name in (TASK, SEED):
        raise HarnessError(f"{where}: factor {name!r}: every study has it; set {name}s instead.")
    if isinstance(levels_or_values, dict):
        levels = [Level(str(level), settings or {}) for level, settings in levels_or_values.items()]
    else:
        top = name.partition(".")[0]
        if top not in TaskSettings.model_fields:
            raise unknown(
                f"setting that factor {where} is named for", top, TaskSettings.model_fields
            )
        levels = []
        for value in levels_or_values:
            settings: Any = value
            for part in reversed(name.split(".")):
                settings = {part: settings}
            levels.append(Level(level_name(value), settings))
    if not levels:
        raise HarnessError(f"{where}: factor {name!r} has no level.")
    names = [level.name for level in levels]
    if twice := sorted({level for level in names if names.count(level) > 1}):
        raise HarnessError(f"{where}: factor {name!r} has level {', '.join(twice)} twice.")
    return Factor(name, tuple(levels))


def level_name(value: Any) -> str:
    """Name of a value in tables."""
    if isinstance(value, str):
        return value
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    )


def expanded(plan: StudyFile, factors: tuple[Factor, ...], where: Any) -> Iterator[Configuration]:
    """The grid without what is left out, then the cells that are added."""
    names = [TASK, *(factor.name for factor in factors)]
    levels = [plan.tasks, *(factor.names for factor in factors)]
    index = [{level: number for number, level in enumerate(each)} for each in levels]

    def looked_up(key: str, value: Any, place: str) -> int:
        if key not in names:
            raise unknown(f"factor in {place}", key, [*names, SEED])
        column = names.index(key)
        if level_name(value) not in index[column]:
            raise unknown(f"level of {key} in {place}", level_name(value), levels[column])
        return index[column][level_name(value)]

    rules = []
    for number, rule in enumerate(plan.leave_out):
        place = where("leave_out", number)
        columns = [
            (names.index(key), {looked_up(key, one, place) for one in as_list(value)})
            for key, value in rule.items()
            if key != SEED and looked_up(key, as_list(value)[0], place) >= 0
        ]
        rules.append((columns, seeds_of(rule, plan.seeds, place)))
    trained: dict[tuple[int, ...], tuple[int, ...]] = {}
    for combination in itertools.product(*(range(len(each)) for each in levels)):
        seeds = plan.seeds
        for columns, some in rules:
            if all(combination[column] in kept for column, kept in columns):
                seeds = tuple(seed for seed in seeds if seed not in some)
        if seeds:
            trained[combination] = seeds
    for number, cell in enumerate(plan.cells):
        place = where("cells", number)
        seeds = seeds_of(cell, plan.seeds, place)
        chosen = {key: looked_up(key, value, place) for key, value in cell.items() if key != SEED}
        if missing := [
            name for name in names if name not in chosen and len(levels[names.index(name)]) > 1
        ]:
            raise HarnessError(f"{place}: this cell names no level of {', '.join(missing)}.")
        combination = tuple(chosen.get(name, 0) for name in names)
        before = trained.get(combination, ())
        if set(seeds) <= set(before):
            raise HarnessError(f"{place}: this cell is in the study already.")
        trained[combination] = tuple(dict.fromkeys((*before, *seeds)))
    yield from (Configuration(combination, seeds) for combination, seeds in trained.items())


def seeds_of(cell: Mapping[str, Any], default: tuple[int, ...], place: str) -> tuple[int, ...]:
    """The seeds that a cell or a rule names, `default` where it names none."""
    seeds = tuple(as_list(cell.get(SEED, list(default))))
    if not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise HarnessError(f"{place}: seed: expected whole numbers, found {cell[SEED]!r}.")
    return seeds


def as_list(value: Any) -> list[Any]:
    """One value or several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
