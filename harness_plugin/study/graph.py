"""Which models a study needs: every configuration's roles, each once however often it is needed.

A node is one role's model of one seed, with its predictions. Its key hashes everything in the
configuration that decides what the model is (and the source of the code that makes it), so that
sharing is known before any data are loaded. What lies on disk is the store's: two nodes that turn
out to be one model are trained once there all the same.

Plans are large (100,000 cells): a setting is resolved once for every combination of the levels that
touch it, and a role once for every combination of the settings that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from harness_plugin.config.mappings import problems
from harness_plugin.config.merge import task_settings
from harness_plugin.config.roles import Role, plan_of_roles
from harness_plugin.config.run_config import RunConfig
from harness_plugin.config.settings import TaskSettings
from harness_plugin.data.task import Task, find_task
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.option_facts import check_ranges
from harness_plugin.plugins.registry import Plugins
from harness_plugin.store.keys import code_version
from harness_plugin.study.plan import Configuration, Study

ROLES = (
    "method", "augmentations", "teacher", "student",
    "teachers", "students", "control", "references",
)  # fmt: skip
"""The settings that decide which roles there are."""

OF_ALL = ("options", "image", "vocab_size", "select", "validation_fraction", "validation_pool")
"""The settings that every model of a task depends on."""

OF_METHODS = ("bias_model", "bias_model_options", "group_inference", "group_inference_options")
"""And those that matter to a method that is not ERM, and to whoever learns from a teacher."""

OF_RUN = (
    "data", "data_seed", "limit", "device", "precision",
    "attention", "threads", "eval_batch_size", "trust_remote_code",
)  # fmt: skip
"""Run settings that can change a model or what it answers."""

TRAINING = "harness_plugin.pipeline.roles.train_role:train_role"
"""Where the code of a training begins."""


@dataclass(frozen=True, slots=True)
class Node:
    """One role's model, of any seed. `learns_from` are the nodes that it learns from."""

    key: str
    task: str
    role: str
    method: str
    model: str
    learns_from: tuple[int, ...]
    configuration: int
    """The first configuration that needs it: its settings say how it is trained."""
    alike: str
    """The same for models that cost alike: the same size, training and rows."""


@dataclass(frozen=True)
class NamedChoice:
    """Something named in a plan, with its settings; `where` is the first cell that has it."""

    kind: str
    name: str
    options: Any
    modality: Literal["text", "image"]
    where: str


@dataclass(frozen=True)
class Graph:
    """Every node of a study, and the nodes of every configuration by role."""

    study: Study
    nodes: tuple[Node, ...]
    roles: tuple[tuple[int, ...], ...]
    """Node numbers of each configuration, a teacher before those that learn from it."""
    seeds: tuple[tuple[int, ...], ...]
    """Seeds in which each node is needed."""
    choices: tuple[NamedChoice, ...] = ()
    """Every distinct model and every option of a method."""

    @cached_property
    def trainings(self) -> int:
        """Distinct trainings: nodes x seeds."""
        return sum(len(seeds) for seeds in self.seeds)

    @cached_property
    def unshared(self) -> int:
        """Trainings there would be if every run trained its own models."""
        pairs = zip(self.study.configurations, self.roles, strict=True)
        return sum(len(one.seeds) * len(roles) for one, roles in pairs)

    def instances(self) -> Iterator[tuple[int, int]]:
        """Every (node, seed), seed by seed, so that whole runs are finished early."""
        for seed in sorted({seed for seeds in self.seeds for seed in seeds}):
            for number, seeds in enumerate(self.seeds):
                if seed in seeds:
                    yield number, seed

    def check_choices(self, plugins: Plugins) -> None:
        """Refuse options and models that do not exist; imports torch, reads no data.

        Raises HarnessError naming the cell.
        """
        from harness_plugin.models.checkpoints import check_settings
        from harness_plugin.training.contracts import Configured

        trust = bool(self.study.plan.run.get("trust_remote_code", False))
        for choice in self.choices:
            try:
                if choice.kind == "model":
                    check_settings(choice.options, choice.modality, plugins, trust)
                else:
                    offer = plugins[choice.kind].offer(choice.name)
                    cls = offer.subclass(Configured)
                    check_ranges(offer, cls.resolved(choice.options, choice.modality))
            except HarnessError as error:
                raise HarnessError(f"{self.study.file}: {choice.where}: {error}") from None

    def name_of(self, node: int, seed: int) -> str:
        """Name of a training in the store and in messages."""
        return f"{self.nodes[node].key}-{seed}"


def graph_of(study: Study, plugins: Plugins) -> Graph:
    """Expand a study. Raises HarnessError for names that do not exist, with the cell."""
    config = run_settings(study)
    tasks = {
        name: find_task(name, plugins["task"], config.include_path) for name in study.plan.tasks
    }
    if len({task.task for task in tasks.values()}) < len(tasks):
        raise HarnessError(f"{study.file}: tasks: one task is named twice.")
    builder = Builder(study, plugins, config, tasks)
    roles, needed = [], list[dict[int, None]]()
    for number, configuration in enumerate(study.configurations):
        try:
            mine = builder.nodes_of(number, configuration)
        except HarnessError as error:
            raise HarnessError(f"{study.file}: {cell_of(study, configuration)}: {error}") from None
        needed += [{} for _ in range(len(builder.nodes) - len(needed))]
        for node in mine:
            needed[node].update(dict.fromkeys(configuration.seeds))
        roles.append(mine)
    seeds = tuple(tuple(some) for some in needed)
    choices = tuple(builder.choices.values())
    return Graph(study, tuple(builder.nodes), tuple(roles), seeds, choices)


def cell_of(study: Study, configuration: Configuration) -> str:
    """A configuration in words."""
    return "cell " + ", ".join(f"{k} {v}" for k, v in study.levels_of(configuration).items())


def run_settings(study: Study) -> RunConfig:
    """The run settings of a study, checked."""
    from pydantic import ValidationError

    try:
        return RunConfig.model_validate(
            {**study.plan.run, "tasks": study.plan.tasks, "seeds": study.plan.seeds}
        )
    except ValidationError as error:
        raise HarnessError(problems(f"{study.file}: run", error)) from None


@dataclass
class Builder:
    """Resolves configurations into nodes, remembering every part that was resolved before."""

    study: Study
    plugins: Plugins
    config: RunConfig
    tasks: Mapping[str, Task]
    nodes: list[Node] = field(default_factory=list)
    choices: dict[tuple[Any, ...], NamedChoice] = field(default_factory=dict)
    _values: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _pool: list[Any] = field(default_factory=list)
    _texts: dict[str, int] = field(default_factory=dict)
    _touching: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = field(default_factory=dict)
    _roles: dict[tuple[Any, ...], tuple[Role, ...]] = field(default_factory=dict)
    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def nodes_of(self, number: int, configuration: Configuration) -> tuple[int, ...]:
        """The nodes of one configuration, in the order of training."""
        task = self.study.task_of(configuration)
        values = self._resolved(task, configuration)
        key = (task, *(values[name] for name in ROLES))
        if key not in self._roles:
            chosen = {name: self._pool[values[name]] for name in ROLES}
            settings = TaskSettings.model_construct(**chosen)
            self._roles[key] = tuple(plan_of_roles(settings).values())
        nodes: dict[str, int] = {}
        for role in self._roles[key]:
            learns_from = tuple(nodes[name] for name in role.learns_from)
            nodes[role.name] = self._node(number, task, role, values, learns_from)
        return tuple(nodes.values())

    def _resolved(self, task: str, configuration: Configuration) -> dict[str, int]:
        """Setting -> number of its value in the pool."""
        out = {}
        for name, columns in self._columns(task):
            levels = tuple(configuration.levels[column] for column in columns)
            key = (task, name, levels)
            if key not in self._values:
                self._resolve(task, configuration, columns, levels)
            out[name] = self._values[key]
        return out

    def _columns(self, task: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Every setting, with the factors (columns of `levels`) that touch it in this task."""
        if task not in self._touching:
            touched: dict[str, list[int]] = {name: [] for name in TaskSettings.model_fields}
            for column, factor in enumerate(self.study.factors, start=1):
                for name in {
                    n for level in factor.levels for n in self._names(task, level.settings)
                }:
                    touched[name].append(column)
            self._touching[task] = tuple((n, tuple(c)) for n, c in touched.items())
        return self._touching[task]

    def _names(self, task: str, settings: Mapping[str, Any]) -> set[str]:
        """The settings of a task that some level sets."""
        names = set()
        for key, value in settings.items():
            if key in TaskSettings.model_fields:
                names.add(key)
            elif key == task and isinstance(value, Mapping):
                own = self.tasks[task].options
                names |= {"options" if name in own else name for name in value}
        return names & set(TaskSettings.model_fields)

    def _resolve(
        self,
        task: str,
        configuration: Configuration,
        columns: tuple[int, ...],
        levels: tuple[int, ...],
    ) -> None:
        """Resolve all settings that depend on just these factors."""
        opened = self.tasks[task]
        chosen = self.study.settings_of(configuration)
        settings = task_settings(opened, self.config.source_of(opened), [task, opened.task], chosen)
        self._check(opened, settings, configuration)
        for name, touching in self._columns(task):
            if touching == columns:
                self._values[(task, name, levels)] = self._number(getattr(settings, name))

    def _check(self, task: Task, settings: TaskSettings, configuration: Configuration) -> None:
        """Refuse names that no plugin offers, and note what is checked before the training."""

        def chosen(kind: str, name: str, options: Any) -> None:
            if kind != "model":
                self.plugins[kind].offer(name)
            key = kind, name, json.dumps(options, sort_keys=True, default=dumped), task.modality
            if key not in self.choices:
                where = cell_of(self.study, configuration)
                self.choices[key] = NamedChoice(kind, name, options, task.modality, where)

        for role in plan_of_roles(settings).values():
            chosen("model", role.settings.model, role.settings)
            chosen("method", role.method, settings.method_options.get(role.method, {}))
            for name, options in role.augmentations.items():
                chosen("augmentation", name, options)
            if distillation := role.distillation:
                chosen("distiller", distillation.distiller, distillation.distiller_options)
                for name, options in distillation.compress.items():
                    chosen("compressor", name, options)
        for kind in ("bias_model", "group_inference"):
            name, options = getattr(settings, kind), getattr(settings, f"{kind}_options")
            if name != "none":
                chosen(kind, name, options.get(name, {}))

    def _number(self, value: Any) -> int:
        """The number of a value: equal values have one."""
        text = json.dumps(value, sort_keys=True, default=dumped)
        if text not in self._texts:
            self._texts[text] = len(self._pool)
            self._pool.append(value)
        return self._texts[text]

    def _node(
        self,
        number: int,
        task: str,
        role: Role,
        values: dict[str, int],
        learns_from: tuple[int, ...],
    ) -> int:
        """The number of a role's node, which is made when it is new."""
        rows = bool(role.augmentations)
        learns = role.distillation is not None and not role.kind.from_labels
        of_methods = rows or role.method != "erm" or learns
        key = (
            task,
            role.method,
            id(role.settings),
            id(role.distillation) if role.distillation else None,
            self._number(role.augmentations),
            role.init_group,
            learns_from,
            *(values[name] for name in OF_ALL),
            *((values["method_options"], *(values[n] for n in OF_METHODS)) if of_methods else ()),
        )
        if key not in self._numbers:
            self._numbers[key] = self._made(number, task, role, values, learns_from, of_methods)
        return self._numbers[key]

    def _code(self, task: str, role: Role, values: dict[str, int]) -> str:
        """The version of the code that makes a role's model, its data and its classes."""
        of_task = self.tasks[task]
        distillation = role.distillation
        names = [("method", role.method), ("method", "erm")]
        names += [("augmentation", name) for name in role.augmentations]
        if distillation is not None:
            names += [("distiller", distillation.distiller)]
            names += [("compressor", name) for name in distillation.compress]
        for kind in ("bias_model", "group_inference"):
            name = self._pool[values[kind]]
            names += [(kind, name)] if name in self.plugins[kind] else []
        targets = [self.plugins[kind].offer(name).target for kind, name in names]
        return code_version(
            TRAINING, *targets, *of_task.code_targets(self.config.source_of(of_task))
        )

    def _made(
        self,
        number: int,
        task: str,
        role: Role,
        values: dict[str, int],
        learns_from: tuple[int, ...],
        of_methods: bool,
    ) -> int:
        """A new node, or the one that turns out to have the same key."""
        options = self._pool[values["method_options"]].get(role.method, {})
        settings = role.settings.model_dump(mode="json")
        training = {
            "task": self.tasks[task].task,
            "run": {name: getattr(self.config, name) for name in OF_RUN},
            "settings": settings,
            "distillation": role.distillation and role.distillation.model_dump(mode="json"),
            "augmentations": dict(role.augmentations),
            **{name: self._pool[values[name]] for name in OF_ALL},
        }
        spec = {
            **training,
            "method": role.method,
            "init_group": role.init_group,
            "learns_from": [self.nodes[node].key for node in learns_from],
            "method_options": options if of_methods else None,
            "of_methods": [self._pool[values[n]] for n in OF_METHODS] if of_methods else None,
            "code": self._code(task, role, values),
        }
        key = hashed(spec)
        if key in self._keys:
            return self._keys[key]
        self.nodes.append(
            Node(
                key=key,
                task=self.tasks[task].task,
                role=role.name,
                method=role.method,
                model=str(settings["model"]),
                learns_from=learns_from,
                configuration=number,
                alike=hashed({**training, "method": role.method}),
            )
        )
        self._keys[key] = len(self.nodes) - 1
        return self._keys[key]

    @cached_property
    def _keys(self) -> dict[str, int]:
        return {}


def hashed(spec: Mapping[str, Any]) -> str:
    """20 hex digits of a mapping."""
    text = json.dumps(spec, sort_keys=True, default=dumped, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def dumped(value: Any) -> Any:
    """JSON of values that `json` does not know: a pydantic model's fields, else its text."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
