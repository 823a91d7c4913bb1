"""Predictions of all roles and seeds, joined row by row, set by set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from harness_plugin.errors import HarnessError
from harness_plugin.records import Predictions

PairedPredictions: TypeAlias = Mapping[str, tuple[Predictions, ...]]
"""Role -> its predictions on one set, one a seed, rows in the same order everywhere."""


def first_of(paired: PairedPredictions) -> Predictions:
    """Any of the predictions: what is known of the rows is the same in all."""
    return next(iter(paired.values()))[0]


def arrange(
    predictions: Sequence[Predictions], purposes: Mapping[str, str]
) -> dict[str, PairedPredictions]:
    """Set -> its predictions: in-domain sets first, roles as they come, seeds ascending.

    Raises HarnessError for a doubled or missing (role, seed, set) and for an unknown set.
    """
    cells: dict[tuple[str, str, int], Predictions] = {}
    for p in predictions:
        key = (p.split, p.role, p.seed)
        if p.split not in purposes:
            raise HarnessError(f"predictions for set {p.split!r}, which is no evaluation set.")
        if key in cells:
            raise HarnessError(f"{name_of(p)} has two predictions for set {p.split!r}.")
        cells[key] = p
    if not cells:
        raise HarnessError("nothing to score: no predictions.")
    splits, roles, seeds = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
    splits.sort(key=lambda split: purposes[split] != "in_domain")
    seeds.sort()
    for split, role, seed in itertools.product(splits, roles, seeds):
        if (split, role, seed) not in cells:
            raise HarnessError(
                f"{role} seed {seed} has no predictions for set {split!r}; roles are compared "
                f"seed by seed, so that every role needs every seed and set."
            )
    return {
        split: {role: tuple(cells[split, role, seed] for seed in seeds) for role in roles}
        for split in splits
    }


def check_collapse(predictions: Sequence[Predictions], rule: str) -> None:
    """Refuse predictions that were collapsed by another rule than the one reported."""
    for p in predictions:
        if p.collapse is not None and p.collapse_rule != rule:
            raise HarnessError(
                f"set {p.split!r} collapses labels by {p.collapse_rule!r}, the scores by {rule!r}."
            )


def twin_of(student: str, starts: Mapping[str, str], roles: Iterable[str]) -> str:
    """The control among `roles` that starts from the same weights as a student; "" if none does.

    `starts`: role -> the teacher's layers that it starts from; its own first weights if it lacks.
    """
    controls = (role for role in roles if role.startswith("control"))
    return next((role for role in controls if same_start(role, student, starts)), "")


def erm_twin_of(student: str, starts: Mapping[str, str], roles: Iterable[str]) -> str:
    """The ERM student among `roles` that starts as a student does where nothing is debiased.

    From the same weights of its own, or from the ERM teacher where the student starts from the
    teacher; "" if none does.
    """
    start = starts.get(student, "")
    if start.endswith(OF_TEACHER):
        start = start.removesuffix(OF_TEACHER) + OF_ERM_TEACHER
    references = (role for role in roles if role.startswith("erm_student"))
    return next((role for role in references if starts.get(role, "") == start), "")


OF_TEACHER, OF_ERM_TEACHER = " of teacher", " of erm_teacher"
"""How `start_of` ends for a model that starts from the one or the other."""


def same_start(role: str, other: str, starts: Mapping[str, str]) -> bool:
    """Whether two roles start from the same weights, as far as is known."""
    return starts.get(role, "") == starts.get(other, "")


ALIKE = 1e-4
"""Logits that differ by less are those of one model: batches of other rows round otherwise."""


def distinct(sets: Sequence[Sequence[Predictions]]) -> int:
    """How many different models answered: those with equal logits on every set are one training.

    `sets`: the predictions on each set, one a seed, rows in one order.
    """
    models: list[tuple[Predictions, ...]] = []
    for model in zip(*sets, strict=True):
        if not any(alike(model, other) for other in models):
            models.append(model)
    return len(models)


def alike(model: Sequence[Predictions], other: Sequence[Predictions]) -> bool:
    """Whether two models gave the same logits on all sets."""
    return all(
        np.allclose(a.logits, b.logits, rtol=0, atol=ALIKE)
        for a, b in zip(model, other, strict=True)
    )


ONE_CLASS, BEYOND = 0.95, 0.1
"""A model answers one class where .95 of the rows get it, and .1 fewer have it as gold label."""


def one_class(p: Predictions) -> str:
    """A note on a model that answers (nearly) one label only; "" for others."""
    if p.labels[1:] and len(p):
        counts = np.bincount(p.predicted[p.predicted >= 0], minlength=len(p.labels))
        most = int(counts.argmax())
        share, gold = counts[most] / len(p), float(np.mean(p.label == most))
        if share >= ONE_CLASS and share - gold >= BEYOND:
            return f"{p.labels[most]} for {'every row' if share == 1 else f'{share:.1%} of rows'}"
    return ""


def one_class_notes(table: Mapping[str, PairedPredictions]) -> Iterator[str]:
    """A sentence for every role with models that give (nearly) one label to all rows of a set."""
    for split, paired in table.items():
        for role, predictions in paired.items():
            answers = list(filter(None, map(one_class, predictions)))
            if answers:
                seeds = f"{len(answers)} of {len(predictions)} seed(s)"
                words = " and ".join(dict.fromkeys(answers))
                yield f"{role} predicts {words} of {split} ({seeds}): its gaps say nothing of bias"


def few_rows_notes(table: Mapping[str, PairedPredictions], min_group: int) -> Iterator[str]:
    """A sentence for every set with groups that have too few rows, or no training row."""
    for split, paired in table.items():
        p = first_of(paired)
        rows = dict(zip(p.groups, p.membership.sum(axis=0).tolist(), strict=True))
        if few := [name for name, n in rows.items() if n < min_group]:
            least = min(few, key=rows.__getitem__)
            yield (
                f"{len(few)} of {len(rows)} groups of {split} have under {min_group} rows (the "
                f"smallest, {least}, has {rows[least]}): they steer no worst group"
            )
        train = p.train_groups or {}
        if any(train.values()) and (unseen := [name for name in rows if train.get(name) == 0]):
            yield f"groups of {split} without a training row: {', '.join(unseen)}"


def in_order(table: Mapping[str, PairedPredictions]) -> tuple[Predictions, ...]:
    """All predictions in the order (role, seed, split), rows as they came."""
    paired_sets = list(table.values())
    return tuple(
        p
        for role in paired_sets[0]
        for seed in zip(*(paired[role] for paired in paired_sets), strict=True)
        for p in seed
    )


def join(paired: PairedPredictions) -> PairedPredictions:
    """The predictions with every row sorted by id; HarnessError unless all have the same rows."""
    first = by_id(first_of(paired))
    joined: dict[str, tuple[Predictions, ...]] = {}
    for role, predictions in paired.items():
        joined[role] = tuple(by_id(p) for p in predictions)
        for p in joined[role]:
            check_same_rows(p, first)
    return joined


def by_id(p: Predictions) -> Predictions:
    """The rows sorted by id; HarnessError for a doubled id."""
    if bool((p.ids[1:] > p.ids[:-1]).all()):
        return replace(p, texts={})
    order = np.argsort(p.ids, kind="stable")
    ids = p.ids[order]
    if (doubled := ids[1:][ids[1:] == ids[:-1]]).size:
        raise HarnessError(f"{name_of(p)}, set {p.split!r}: id {str(doubled[0])!r} is doubled.")
    return take(p, order)


def take(p: Predictions, rows: np.ndarray[Any, Any]) -> Predictions:
    """The predictions of `rows` (indices or mask), without their texts."""
    return replace(
        p,
        ids=p.ids[rows],
        logits=p.logits[rows],
        label=p.label[rows],
        group=p.group[rows],
        members=None if p.members is None else p.members[rows],
        aligned=p.aligned[rows],
        cluster=None if p.cluster is None else p.cluster[rows],
        breakdowns={name: values[rows] for name, values in p.breakdowns.items()},
        texts={},
    )


def check_same_rows(p: Predictions, first: Predictions) -> None:
    """Refuse rows sorted by id that differ in ids, gold labels, groups, bias types or clusters."""
    if not np.array_equal(p.ids, first.ids):
        odd = str(np.setxor1d(p.ids, first.ids)[0])
        raise HarnessError(
            f"set {p.split!r}: {name_of(p)} has {len(p):,} rows and {name_of(first)} "
            f"{len(first):,}; id {odd!r}, for one, is only in one of them."
        )
    names = (p.labels, p.groups, p.clusters) == (first.labels, first.groups, first.clusters)
    mine, theirs = columns_of(p), columns_of(first)
    if not (
        names
        and mine.keys() == theirs.keys()
        and all(np.array_equal(mine[name], theirs[name]) for name in mine)
    ):
        raise HarnessError(
            f"set {p.split!r}: {name_of(p)} and {name_of(first)} have the same ids but other "
            f"labels, groups, bias types or clusters; they come from other data."
        )


def columns_of(p: Predictions) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of the rows themselves, independent of models."""
    known = {"label": p.label, "group": p.group, "aligned": p.aligned, **p.breakdowns}
    optional = {"members": p.members, "cluster": p.cluster}
    return known | {name: values for name, values in optional.items() if values is not None}


def name_of(p: Predictions) -> str:
    """Role and seed, as messages name a model."""
    return f"{p.role} seed {p.seed}"
