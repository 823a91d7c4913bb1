"""Predictions of forty rows in four groups, made so that every number follows by hand."""

import numpy as np

from harness_plugin.records import Estimate, Predictions, TaskScores, VerdictRule
from harness_plugin.scoring import metrics as m
from harness_plugin.scoring.score import score_task

METRICS = {
    metric.name: metric
    for metric in (
        m.ACC,
        m.F1,
        m.WORST_GROUP_ACC,
        m.ACC_TRAIN_WEIGHTED,
        m.GAP_ID_OOD,
        m.GAP_ALIGNED_CONFLICTING,
        m.GAP_AVG_WORST,
        m.GAP_ENTAILMENT,
        m.ECE,
    )
}
LABELS = ("entailment", "non-entailment")
GROUPS = ("lexical/entailment", "lexical/non", "sub/entailment", "sub/non")
N = 40
GROUP = np.arange(N) % 4
LABEL = GROUP % 2


def predict(role, seed, rights, split="hans", **more):
    """Predictions that get `rights` of the 10 rows of each of the four groups right."""
    rank = np.arange(N) // 4
    right = rank < np.asarray(rights)[GROUP]
    predicted = np.where(right, LABEL, 1 - LABEL)
    fields = {
        "task": "t",
        "split": split,
        "role": role,
        "model": f"{role}-{seed}",
        "seed": seed,
        "ids": np.array([f"ex{i:02d}" for i in range(N)]),
        "logits": 2 * np.eye(2, dtype=np.float32)[predicted],
        "model_labels": LABELS,
        "label": LABEL,
        "labels": LABELS,
        "group": GROUP,
        "groups": GROUPS,
        "aligned": 1 - LABEL,
        "breakdowns": {"heuristic": np.where(GROUP < 2, "lexical", "sub")},
    }
    return Predictions(**(fields | more))


def score(predictions, **more) -> TaskScores:
    arguments = {
        "task": "t",
        "source": "embedded",
        "fingerprint": "f",
        "train_groups": GROUPS,
        "train_group_counts": [4, 1, 4, 1],
        "purposes": {"hans": "ood", "mnli": "in_domain"},
        "metrics": METRICS,
        "resamples": 200,
        "rule": VerdictRule(min_group=1),
    }
    return score_task(predictions, **(arguments | more))


def transfer(scores, metric, measure, *, subset="", student="student", split="hans") -> Estimate:
    expected = (student, split, subset, metric, measure)
    result = [
        t
        for t in scores.transfer
        if (t.student, t.split, t.subset, t.metric, t.measure) == expected
    ]
    assert len(result) == 1, [t for t in scores.transfer if t.measure == measure]
    return result[0].estimate


RIGHTS = {
    "teacher": (9, 7, 9, 8),
    "student": (10, 4, 9, 6),
    "control": (9, 5, 9, 6),
    "erm_teacher": (10, 2, 10, 2),
    "erm_student": (10, 1, 10, 1),
}


def all_roles() -> list[Predictions]:
    """Five roles, three seeds; seed k loses k rows of the last group."""
    return [
        predict(role, seed, (*rights[:3], rights[3] - seed), split=split)
        for role, rights in RIGHTS.items()
        for seed in (0, 1, 2)
        for split in ("hans", "mnli")
    ]
