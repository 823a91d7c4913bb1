"""The trained models of a finished run, ready to be read, and the rows they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness_plugin.config.roles import RoleKind
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.models import classifiers
from harness_plugin.pipeline.roles.context import RunContext
from harness_plugin.pipeline.roles.split_stages import encoded_rows
from harness_plugin.records import Ints, TrainedModel
from harness_plugin.scoring.pairing import twin_of
from harness_plugin.training.inputs.encode import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class FinishedTask:
    """One task of a finished run: the context it was run in, and the record of its models.

    `started` is the moment the run started, as it stands in the names of its files.
    """

    ctx: RunContext
    models: tuple[dict[str, Any], ...]
    started: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that were trained, in that order."""
        return tuple(dict.fromkeys(model["role"] for model in self.models))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the run."""
        return tuple(sorted({model["seed"] for model in self.models}))


@dataclass(frozen=True)
class LoadedModel:
    """One trained model of the run, loaded, in eval mode."""

    role: str
    seed: int
    path: Path
    model: PreTrainedModel
    max_length: int = 0
    """Tokens that its texts are cut to."""
    start: str = ""
    """The teacher's layers that it started from; "" for weights of its own."""


def twins(models: Sequence[LoadedModel]) -> dict[str, str]:
    """Student -> the control that starts from the same weights, where there is one."""
    starts = {model.role: model.start for model in models}
    students = [role for role in starts if role.startswith("student")]
    return {role: twin for role in students if (twin := twin_of(role, starts, starts))}


def just_finished(ctx: RunContext, trained: Sequence[TrainedModel], started: str) -> FinishedTask:
    """The task of a run that is still in memory."""
    models = [
        {
            "role": model.role,
            "kind": model.kind,
            "start": model.start,
            "seed": model.seed,
            "name": model.name,
            "model": model.model,
            "method": model.method,
            "path": str(model.path),
            "settings": dict(model.settings),
        }
        for model in trained
    ]
    return FinishedTask(ctx, tuple(models), started)


def chosen_roles(task: FinishedTask, roles: Sequence[str]) -> tuple[str, ...]:
    """`roles`, or teacher, the first student and its control, those that there are."""
    for role in roles:
        if role not in task.roles:
            raise unknown(f"role of task {task.ctx.task.task}", role, task.roles)
    if roles:
        return tuple(dict.fromkeys(roles))
    starts = {m["role"]: m["start"] for m in task.models}
    kinds = (RoleKind.TEACHER, RoleKind.STUDENT)
    firsts = [next((m["role"] for m in task.models if m["kind"] == kind), "") for kind in kinds]
    return tuple(filter(None, (*firsts, twin_of(firsts[1], starts, task.roles))))


def chosen_seeds(task: FinishedTask, seeds: Sequence[int]) -> tuple[int, ...]:
    """`seeds`, or all seeds of the run."""
    for seed in seeds:
        if seed not in task.seeds:
            raise unknown("seed of the run", str(seed), map(str, task.seeds))
    return tuple(sorted(set(seeds))) or task.seeds


def load(task: FinishedTask, role: str, seed: int, attention: str) -> LoadedModel:
    """One model of the run; HarnessError when the run kept none, with what to do."""
    record = next(m for m in task.models if (m["role"], m["seed"]) == (role, seed))
    ctx, path = task.ctx, Path(record["path"])
    where = f"task {ctx.task.task}: {role} seed {seed}"
    if record["method"] == "predictions":
        raise HarnessError(
            f"{where} was scored from a file of predictions; analyses read models. Score its "
            f"checkpoint with --eval_only and analyse that run."
        )
    as_saved = record["method"] == "as saved"
    if not path.is_dir() and not as_saved:
        raise HarnessError(
            f"{where}: its checkpoint {path} is gone. Run the same command again (finished stages "
            f"are reused), then analyse the new run."
        )
    model = classifiers.load_trained(
        str(path),
        ctx.task.modality,
        attention=attention,
        trust_remote_code=ctx.config.trust_remote_code,
    )
    module: torch.nn.Module = model
    module.eval().to(ctx.accelerator.device)
    max_length = int(record["settings"]["max_length"])
    return LoadedModel(role, seed, path, model, max_length, record["start"])


def encoded_for(task: FinishedTask, subject: LoadedModel, split: Split) -> Encoded:
    """The rows of `split` as this model reads them."""
    return encoded_rows(task.ctx, split, str(subject.path), subject.max_length)


def inputs_of(encoded: Encoded, rows: Ints, device: torch.device) -> dict[str, torch.Tensor]:
    """The model's keyword arguments for `rows`, on `device`."""
    return encoded.batch(np.asarray(rows), device)


def chosen_split(data: TaskData, name: str | None) -> Split:
    """The evaluation set `name`; by default the last that has both kinds of rows, or the last.

    Sets out of domain come last: the answer is given on them, and so is what explains it.
    """
    sets = data.evaluation
    if name is None:
        both = (split for split in reversed(sets) if set(split.aligned.tolist()) >= {0, 1})
        return next(both, sets[-1])
    named = [split for split in sets if split.name == name]
    if not named:
        raise unknown("evaluation set", name, [split.name for split in sets])
    return named[0]


def rows_of_groups(
    split: Split, groups: Sequence[str], examples: int, fewest: int, seed: int
) -> dict[str, Ints]:
    """Equally many rows of each of `groups`, at most `examples`, in random order.

    A group is "aligned", "conflicting", "all", or the name of one of the set's own groups. Without
    any: aligned and conflicting rows where the set has `fewest` of both, else all rows together.
    Raises HarnessError for another name and for a group of fewer than `fewest` rows.
    """
    if not groups:
        both = all(np.count_nonzero(split.aligned == kind) >= fewest for kind in (0, 1))
        groups = ("aligned", "conflicting") if both else ("all",)
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
