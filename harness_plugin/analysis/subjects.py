"""A finished run → its data and its trained models, ready to be read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from harness_plugin import models
from harness_plugin.config import RoleSettings, RunConfig, run_config
from harness_plugin.data import Split
from harness_plugin.encode import Encoded
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins import Plugins
from harness_plugin.records import Ints
from harness_plugin.roles import Workshop
from harness_plugin.run import open_workshop, prepare
from harness_plugin.stages import default_root
from harness_plugin.task import find_task

RECORD = re.compile(r"transfer_(?P<task>[a-z0-9_]+)_(?P<time>\d{4}-[0-9T.-]+)\.json")
ROLES = ("teacher", "student", "control")


@dataclass(frozen=True)
class FinishedTask:
    """One task of a finished run: the workshop it was run in, and the record of its models."""

    shop: Workshop
    models: tuple[dict[str, Any], ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that were trained, in that order."""
        return tuple(dict.fromkeys(model["role"] for model in self.models))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the run."""
        return tuple(sorted({model["seed"] for model in self.models}))


@dataclass(frozen=True)
class Subject:
    """One trained model of the run, loaded, in eval mode."""

    role: str
    seed: int
    path: Path
    settings: RoleSettings
    model: PreTrainedModel


def open_run(
    folder: Path,
    plugins: Plugins,
    *,
    started: str | None = None,
    tasks: Sequence[str] = (),
    machine: dict[str, Any] | None = None,
) -> list[FinishedTask]:
    """The tasks of the run in `folder` (of several, the one that `started`); `tasks` = only these.

    `machine` overrides where it is read on: device, threads. Raises HarnessError for a folder
    without a run, and for data that are no longer those of the run.
    """
    time = start_of(folder, started)
    written = folder / f"config_{time}.yaml"
    if not written.is_file():
        raise HarnessError(f"{folder}: {written.name} is gone, without which no data can be read.")
    overrides = {name: value for name, value in (machine or {}).items() if value is not None}
    config = run_config(written, overrides, [])
    records = {
        record["task"]: record
        for file in sorted(folder.glob(f"transfer_*_{time}.json"))
        for record in [json.loads(file.read_text(encoding="utf-8"))]
    }
    for task in tasks:
        if task not in records:
            raise unknown(f"task of the run in {folder}", task, records)
    return opened(config, plugins, records, tasks)


def opened(
    config: RunConfig, plugins: Plugins, records: dict[str, Any], tasks: Sequence[str]
) -> list[FinishedTask]:
    """The workshops of the wanted tasks, their data compared with what the run recorded."""
    root = Path(config.use_cache) if config.use_cache else default_root()
    found = {name: find_task(name, plugins["task"], config.include_path) for name in config.tasks}
    wanted = tuple(name for name in config.tasks if not tasks or found[name].task in tasks)
    out = []
    for task, settings, data in prepare(config.model_copy(update={"tasks": wanted}), plugins):
        record = records[task.task]
        if data.fingerprint != record["fingerprint"]:
            raise HarnessError(
                f"task {task.task}: the data have changed since the run (fingerprint "
                f"{data.fingerprint[:12]}, the run's {record['fingerprint'][:12]}); run it again."
            )
        shop = open_workshop(task, settings, data, config, plugins, root)
        out.append(FinishedTask(shop, tuple(record["models"])))
    return out


def start_of(folder: Path, started: str | None) -> str:
    """When the run started whose files are taken."""
    if not folder.is_dir():
        raise HarnessError(f"{folder}: expected the --output_path of a run; no such folder.")
    found = (RECORD.fullmatch(file.name) for file in folder.iterdir())
    times = sorted({match["time"] for match in found if match})
    if not times:
        raise HarnessError(f"{folder}: no transfer_*.json; expected the --output_path of a run.")
    if started is None and len(times) > 1:
        raise HarnessError(f"{folder} holds several runs; take one with --started {times[-1]}.")
    if started is not None and started not in times:
        raise unknown(f"run in {folder}", started, times)
    return started or times[0]


def chosen_roles(task: FinishedTask, wanted: Sequence[str]) -> tuple[str, ...]:
    """`wanted`, or teacher, the first student and control, those that there are."""
    for role in wanted:
        if role not in task.roles:
            raise unknown(f"role of task {task.shop.task.task}", role, task.roles)
    if wanted:
        return tuple(dict.fromkeys(wanted))
    students = [role for role in task.roles if role.startswith("student")]
    return tuple(role for role in ("teacher", *students[:1], "control") if role in task.roles)


def chosen_seeds(task: FinishedTask, wanted: Sequence[int]) -> tuple[int, ...]:
    """`wanted`, or all seeds of the run."""
    for seed in wanted:
        if seed not in task.seeds:
            raise unknown("seed of the run", str(seed), map(str, task.seeds))
    return tuple(sorted(set(wanted))) or task.seeds


def load(task: FinishedTask, role: str, seed: int, attention: str) -> Subject:
    """One model of the run; HarnessError when the run kept none, with what to do."""
    record = next(m for m in task.models if (m["role"], m["seed"]) == (role, seed))
    shop, path = task.shop, Path(record["path"])
    where = f"task {shop.task.task}: {role} seed {seed}"
    if record["method"] == "predictions":
        raise HarnessError(
            f"{where} was scored from a file of predictions; analyses read models. Score its "
            f"checkpoint with --eval_only and analyse that run."
        )
    given = record["method"] == "as saved"
    if not path.is_dir() and not given:
        raise HarnessError(
            f"{where}: its checkpoint {path} is gone. Run the same command again (finished stages "
            f"are reused), then analyse the new run."
        )
    settings = RoleSettings.model_validate(
        {key: record["settings"][key] for key in RoleSettings.model_fields}
    ).model_copy(update={"model": str(path), "config": {}})
    model = models.load_trained(
        str(path),
        shop.task.modality,
        attention=attention,
        trust_remote_code=shop.config.trust_remote_code,
    )
    module: torch.nn.Module = model
    module.eval().to(shop.accelerator.device)
    return Subject(role, seed, path, settings, model)


def encoded_for(task: FinishedTask, subject: Subject, split: Split) -> Encoded:
    """The rows of `split` as this model reads them."""
    return task.shop.encoded(split, subject.settings)


def inputs_of(encoded: Encoded, rows: Ints, device: torch.device) -> dict[str, torch.Tensor]:
    """The model's keyword arguments for `rows`, on `device`."""
    return {key: value.to(device) for key, value in encoded.batch(np.asarray(rows)).items()}


def chosen_split(task: FinishedTask, name: str | None) -> Split:
    """The evaluation set `name`; by default the first that has both kinds of rows, or the first."""
    sets = task.shop.data.evaluation
    if name is None:
        both = (split for split in sets if set(split.aligned.tolist()) >= {0, 1})
        return next(both, sets[0])
    found = [split for split in sets if split.name == name]
    if not found:
        raise unknown("evaluation set", name, [split.name for split in sets])
    return found[0]


def rows_of_groups(
    split: Split, groups: Sequence[str], examples: int, fewest: int, seed: int
) -> dict[str, Ints]:
    """Equally many rows of each of `groups`, at most `examples`, in random order.

    A group is "aligned", "conflicting", "all", or the name of one of the set's own groups. Raises
    HarnessError for another name and for a group of fewer than `fewest` rows.
    """
    kinds = {
        "all": np.ones(len(split), bool),
        "aligned": split.aligned == 1,
        "conflicting": split.aligned == 0,
    }
    kinds |= {name: split.membership[:, index] for index, name in enumerate(split.groups)}
    members = {}
    for group in groups:
        if group not in kinds:
            raise unknown(f"group of set {split.name!r}", group, kinds)
        members[group] = np.flatnonzero(kinds[group])
        if len(members[group]) < fewest:
            raise HarnessError(
                f"set {split.name!r} has {len(members[group])} rows of group {group!r}, this "
                f"analysis needs {fewest}; choose other --groups or another --split."
            )
    size = min(examples, *(len(rows) for rows in members.values()))
    rng = np.random.default_rng(seed)
    return {group: rng.permutation(rows)[:size] for group, rows in members.items()}
