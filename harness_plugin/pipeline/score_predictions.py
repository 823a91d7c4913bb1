"""Predictions that were made elsewhere, read and scored as those of a run are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.config.merge import task_settings
from harness_plugin.config.run_config import RunConfig, hub_sets_of
from harness_plugin.data.columns import clusters_of
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError
from harness_plugin.machine.environment import environment
from harness_plugin.pipeline.prepare.open_task import load_for
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions, RunReport, TaskScores, TrainedModel
from harness_plugin.scoring.files.prediction_files import PredictionFile, covered, read_answers
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.score import score_task

ROLES = ("student", "teacher", "control")
LONGEST = 200
"""Characters of a model's name: file systems allow 255 bytes in a folder's."""
"""Predictions without a role are the student's: the model that is asked about."""


def check_name(name: str) -> None:
    """Refuse a name that no model and no folder can have: results lie in a folder of that name."""
    parts = name.split("/")
    bad = len(name) > LONGEST or not name.isprintable() or "\\" in name
    if bad or len(parts) > 2 or any(not part.strip(". ") for part in parts):
        shown = name if len(name) <= LONGEST else f"{name[:20]}… ({len(name)} characters)"
        raise HarnessError(
            f"--model_name {shown!r}: expected NAME or OWNER/NAME, at most {LONGEST} characters."
        )


def score_predictions(
    config: RunConfig,
    plugins: Plugins,
    task: Task,
    files: Mapping[str, Sequence[Path]],
    *,
    kind: Any = None,
    labels: tuple[str, ...] | None = None,
    model_name: str | None = None,
) -> RunReport:
    """Score `files`, one a seed for each of `ROLES`; nothing is written.

    They are about the sets of `config` (any). `kind`: label, probabilities or logits, where
    the column names do not say. `labels`: the names of a list column's entries. `model_name`: the
    student's, else that of its file.

    Raises HarnessError for a name that no folder can have, for files that cannot be read, that
    lack rows or have others, and for unequal numbers of files.
    """
    if model_name is not None:
        check_name(model_name)
    started = time.time()
    settings = task_settings(task, config.source_of(task), config.tasks, config.settings)
    data = load_for(task, settings, config, training=False)
    plugins.hook.data_loaded(task=task, data=data, plans=())
    splits = data.evaluation
    answers = read_all(files, splits, kind, labels)
    names = {
        role: model_name if role == "student" and model_name else of_role[0].stem
        for role, of_role in files.items()
        if of_role
    }
    scores = replace(
        scored(task, data, splits, answers, names, config, plugins),
        hub_sets=hub_sets_of(task, settings.options, data.source, config),
    )
    plugins.hook.scores_computed(scores=scores)
    record = {
        **config.model_dump(mode="json"),
        "settings": {task.task: settings.model_dump(mode="json")},
        "predictions": {
            role: [{"file": answer.file.name, "sha256": answer.sha256} for answer in of_role]
            for role, of_role in answers.items()
        },
    }
    return RunReport(record, environment({}), (scores,), started, time.time() - started)


def option_of(role: str) -> str:
    """The option that names a role's files."""
    return "predictions" if role == "student" else f"{role}_predictions"


def read_all(
    files: Mapping[str, Sequence[Path]],
    splits: tuple[Split, ...],
    kind: Any,
    labels: tuple[str, ...] | None,
) -> dict[str, list[PredictionFile]]:
    """The answers of every role, one file a seed; HarnessError for unequal numbers of files."""
    seeds = len(files["student"])
    for role, named in files.items():
        if named and len(named) != seeds:
            raise HarnessError(
                f"--{option_of(role)} names {len(named)} files, --predictions {seeds}: models are "
                f"compared seed by seed, one file each."
            )
    return {
        role: [read_answers(file, splits, kind=kind, labels=labels) for file in named]
        for role, named in files.items()
        if named
    }


def scored(
    task: Task,
    data: TaskData,
    splits: tuple[Split, ...],
    answers: dict[str, list[PredictionFile]],
    names: dict[str, str],
    config: RunConfig,
    plugins: Plugins,
) -> TaskScores:
    """The scores of the sets that the files cover; every file must cover the same ones whole."""
    used = covered(answers["student"][0], splits)
    predictions: list[Predictions] = []
    models: list[TrainedModel] = []
    for role, of_role in answers.items():
        for seed, answer in enumerate(of_role):
            name = names[role] if len(of_role) == 1 else f"{names[role]}-seed{seed}"
            models.append(as_model(task.task, role, seed, name, answer))
            if extra := [s.name for s in covered(answer, splits) if s not in used]:
                first = answers["student"][0].file
                raise HarnessError(f"{answer.file}: rows of set {extra[0]!r}, {first} has none.")
            predictions += [
                answer.joined(
                    split,
                    task=task.task,
                    role=role,
                    model=name,
                    seed=seed,
                    texts=task.inputs if task.modality == "text" else (),
                )
                for split in used
            ]
    predictions = one_clustering(predictions)
    if any(p.labels_only for p in predictions):  # confidences are compared with confidences
        predictions = [replace(p, labels_only=True) for p in predictions]
    notes = [f"set {s.name} is not scored: no file has rows of it" for s in splits if s not in used]
    return score_task(
        predictions,
        task=task.task,
        source=data.source,
        fingerprint=data.fingerprint,
        train_groups=tuple(data.train_groups),
        train_group_counts=tuple(data.train_groups.values()),
        purposes={split.name: split.purpose for split in used},
        metrics=plugins["metric"].instances(Metric),
        models=tuple(models),
        notes=(*data.notes, *notes),
        collapse_rule=data.evaluation[-1].collapse_rule,
        resamples=config.resamples,
        rule=config.rule,
        seed=config.data_seed,
        declared_gap=task.primary_gap,
    )


def one_clustering(predictions: Sequence[Predictions]) -> list[Predictions]:
    """All predictions of a set with the clusters that any of their files names.

    Rows of one set must be in the same clusters in all files that name them: the scores refuse
    predictions whose rows differ.
    """
    named: dict[str, dict[str, str]] = {}
    for p in predictions:
        if p.cluster is not None and p.split not in named:
            texts = np.asarray((*p.clusters, ""), dtype=np.str_)[p.cluster]
            named[p.split] = dict(zip(p.ids.tolist(), texts.tolist(), strict=True))
    out = []
    for p in predictions:
        if p.cluster is None and p.split in named:
            cluster, clusters = clusters_of([named[p.split][name] for name in p.ids.tolist()])
            p = replace(p, cluster=cluster, clusters=clusters)
        out.append(p)
    return out


def as_model(task: str, role: str, seed: int, name: str, answer: PredictionFile) -> TrainedModel:
    """The record of a model of which only the answers are known."""
    return TrainedModel(
        task,
        role,
        seed,
        name,
        answer.file,
        model=name,
        method="predictions",
        settings={"labels": answer.labels, "kind": answer.kind, "sha256": answer.sha256},
        kind=role,
        reused=True,
    )
