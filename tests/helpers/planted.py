"""Results folders with planted answers: how many rows of each group each seed gets right."""

import time
from pathlib import Path

import numpy as np

from harness_plugin.records import Predictions, RunReport, TrainedModel
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.score import score_task
from harness_plugin_hooks.outputs import predictions as predictions_output
from harness_plugin_hooks.outputs import transfer

GROUPS = ("a-fits", "a-against", "b-against", "b-fits")
"""Label and whether the spurious attribute fits it."""
METRICS = {
    metric.name: metric
    for metric in (m.ACC, m.WORST_GROUP_ACC, m.GAP_ALIGNED_CONFLICTING, m.GAP_ID_OOD, m.ECE)
}
EVEN = (90, 80, 80, 90)


def planted(right, *, role="student", seed=0, split="balanced", rows=100, **more) -> Predictions:
    """The first `right[g]` of a group's `rows` are answered correctly, with 73% confidence."""
    group = np.repeat(np.arange(4), rows)
    label = group // 2
    correct = np.tile(np.arange(rows), 4) < np.repeat(right, rows)
    predicted = np.where(correct, label, 1 - label)
    fields = {
        "task": "faces",
        "split": split,
        "role": role,
        "model": f"{role}-{seed}",
        "seed": seed,
        "ids": np.array([f"{split}{i:04}" for i in range(4 * rows)]),
        "logits": np.eye(2, dtype=np.float32)[predicted],
        "model_labels": ("a", "b"),
        "label": label,
        "labels": ("a", "b"),
        "group": group,
        "groups": GROUPS,
        "aligned": np.array([1, 0, 0, 1])[group],
        "breakdowns": {"light": np.array(["day", "night"])[np.arange(4 * rows) % 2]},
    }
    return Predictions(**(fields | more))


def answered(*seeds, role="student", **more) -> list[Predictions]:
    """One model a seed, on the set of its name and, always alike, in domain."""
    return [
        p
        for seed, right in enumerate(seeds)
        for p in (
            planted(right, role=role, seed=seed, **more),
            planted((95, 90, 90, 95), role=role, seed=seed, split="in_domain", **more),
        )
    ]


def scored(predictions, *, task="faces", source="embedded", fingerprint="f" * 64, **more):
    """The scores of planted predictions."""
    models = dict.fromkeys((p.role, p.seed, p.model) for p in predictions)
    fields = {
        "task": task,
        "source": source,
        "fingerprint": fingerprint,
        "train_groups": GROUPS,
        "train_group_counts": [40, 10, 10, 40],
        "purposes": {"balanced": "ood", "in_domain": "in_domain"},
        "metrics": METRICS,
        "resamples": 20,
        "models": tuple(
            TrainedModel(task, role, seed, name, Path(name), name, "m", {})
            for role, seed, name in models
        ),
    }
    return score_task(predictions, **(fields | more))


def write(folder: Path, *scores, log_samples=True) -> Path:
    """What a run writes of these scores, as far as a comparison reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    report = RunReport({"log_samples": log_samples}, {}, scores, time.time(), 0.0)
    predictions_output.write(report, folder)
    transfer.write(report, folder)
    return folder


def results(folder: Path, *seeds, **more) -> Path:
    """A results folder of a student with these rows right, one tuple a seed."""
    return write(folder, scored(answered(*seeds), **more))
