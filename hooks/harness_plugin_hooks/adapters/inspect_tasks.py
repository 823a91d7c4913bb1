"""A task of ours as a task of inspect_ai: rows become samples, groups go into their metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser
from inspect_ai.solver import generate

from harness_plugin.config.merge import run_config
from harness_plugin.data.dataset import Split, TaskData, load_data
from harness_plugin.data.task import find_task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import load_plugins
from harness_plugin_hooks.adapters import inspect_scoring
from harness_plugin_hooks.adapters.checkpoints import TEXTS, instruction


def build(
    name: str,
    data: str | None,
    split: str | None,
    limit: int | None,
    data_seed: int,
    resamples: int,
    options: Mapping[str, Any],
) -> Task:
    """The evaluation sets of one task, a scorer, and metrics that know their groups.

    Raises HarnessError as loading does, for a task of images, and for a set that is not there.
    """
    task = find_task(name, load_plugins()["task"])
    if task.modality != "text":
        raise HarnessError(f"task {task.task} reads images; inspect_ai's models are asked in text.")
    # the rules by which a run reads `--data`
    config = run_config(None, {"tasks": (task.task,), "data": data}, ())
    source = config.source_of(task)
    loaded = load_data(
        task, source, path=config.data_path, options=options, limit=limit, seed=data_seed
    )
    splits = {part.name: part for part in loaded.evaluation}
    if split is not None and split not in splits:
        raise unknown(f"evaluation set of task {task.task}", split, splits)
    chosen = [part for part in loaded.evaluation if split in (None, part.name)]
    sets = {part.name: facts(part, loaded) for part in chosen}
    resampling = {
        "task": task.task,
        "resamples": resamples,
        "seed": data_seed,
        "min_group": config.min_group,
    }
    label = "embedded data" if source == "embedded" else f"{source} data"
    return Task(
        dataset=MemoryDataset(
            [sample for part in chosen for sample in samples(part, task.inputs)],
            name=f"{task.task} ({label})",
            location=str(Path(data).resolve()) if source == "path" and data else source,
        ),
        solver=generate(),
        scorer=inspect_scoring.label(sets),
        metrics=[
            inspect_scoring.performance(sets, resampling),
            inspect_scoring.spurious_gaps(sets, resampling),
            inspect_scoring.group_accuracies(sets),
            inspect_scoring.group_counts(sets),
        ],
        version=task.version,
        metadata={
            "source": source,
            "fingerprint": loaded.fingerprint,
            "notes": list(loaded.notes),
            "bias": task.bias,
        },
    )


def facts(split: Split, data: TaskData) -> dict[str, Any]:
    """Facts of an evaluation set for scorer and metrics; goes into the log as it is."""
    train = data.train
    counts = map(int, train.group_counts)
    return {
        "purpose": split.purpose,
        "labels": list(split.labels),
        "groups": list(split.groups),
        "overlapping": split.overlapping,
        "collapse": dict(split.collapse) if split.collapse else None,
        "collapse_rule": split.collapse_rule,
        "train_groups": dict(zip(train.groups, counts, strict=True)),
    }


def samples(split: Split, inputs: tuple[str, ...]) -> Iterator[Sample]:
    """One sample a row, its id `<set>/<row>`."""
    rows = split.rows[:]
    for i in range(len(split)):
        texts = [rows[column][i] for column in inputs]
        prompt = instruction(inputs, texts, split.labels)
        member = split.membership[i].nonzero()[0] if split.overlapping else [split.group[i]]
        yield Sample(
            id=f"{split.name}/{split.ids[i]}",
            input=[ChatMessageUser(content=prompt, metadata={TEXTS: texts})],
            target=split.labels[split.label[i]],
            metadata={
                "set": split.name,
                "label": split.labels[split.label[i]],
                "group": " & ".join(split.groups[g] for g in member if g >= 0),
                "groups": [split.groups[g] for g in member if g >= 0],
                "aligned": int(split.aligned[i]),
                **({"cluster": rows["cluster"][i]} if split.clusters else {}),
                **{f"bias type: {name}": rows[name][i] for name in split.breakdowns},
            },
        )
