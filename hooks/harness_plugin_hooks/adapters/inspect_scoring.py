"""From answers to labels, and from labels to the numbers of a run, with a run's own functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import (
    CORRECT,
    INCORRECT,
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    metric,
    scorer,
)
from inspect_ai.solver import TaskState

from harness_plugin.data.columns import clusters_of
from harness_plugin.plugins.registry import load_plugins
from harness_plugin.records import Predictions
from harness_plugin.scoring import metrics
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.measure import measure_all
from harness_plugin.scoring.score import estimate_of
from harness_plugin_hooks.metrics import FAIRNESS

PACKAGE = "harness_plugin"
EVERY_ANSWER = "unreduced"
"""With several epochs each answer counts: the mean of several has no label."""

RESAMPLING = {"task": "task", "resamples": 1000}
"""The seed and number of resamples, unless a task has its own."""

LOGITS = "logits"
"""Key of an output's and a score's metadata: what a classifier gives each label that it knows."""

Sets: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Evaluation set -> what `inspect_tasks.facts` says of it."""

Named = TypeVar("Named", bound=Callable[..., Any])


def offered(
    decorator: Callable[..., Any], name: str = "", **options: Any
) -> Callable[[Named], Named]:
    """`decorator`, for things that are to be called `harness_plugin/…` however this is installed.

    inspect_ai puts the import package of a thing's module before its name, in an editable install
    only where a distribution has the name of that package. Of a module that nobody imports it
    knows no package, and takes the name as it is.
    """

    def offer(thing: Named) -> Named:
        full = f"{PACKAGE}/{name or thing.__name__}"
        thing.__module__ = f"{PACKAGE}.inspect"
        registered: Named = decorator(name=full, **options)(thing)
        return registered

    return offer


class Row(NamedTuple):
    """One answered row. `logits`: label of the model -> value; one label alone where it gave that.

    `label` is the gold one, `aligned` 1, 0 or -1 as in `Predictions`; `cluster` is a name, None
    where samples are independent.
    """

    logits: Mapping[str, float]
    label: str
    groups: Sequence[str] = ()
    aligned: int = -1
    cluster: str | None = None


@offered(scorer, metrics=[])
def label(sets: Sets) -> Scorer:
    """Which label the answer names, after the collapse of the row's evaluation set."""

    async def score(state: TaskState, target: Target) -> Score:
        known = sets[state.metadata["set"]]
        logits = (state.output.metadata or {}).get(LOGITS)
        logits_of_answer = logits or one_of(state.output, known)
        if logits_of_answer is None:
            text = state.output.completion
            return Score(value=INCORRECT, explanation=f"names no label, or several: {text!r}")
        p = predictions("", known, [Row(logits_of_answer, target.text)])
        return Score(
            value=CORRECT if p.correct[0] else INCORRECT,
            answer=p.labels[p.predicted[0]],
            metadata={LOGITS: logits} if logits else None,
        )

    return score


def one_of(output: ModelOutput, known: Mapping[str, Any]) -> dict[str, float] | None:
    """The label that a text names, of the set or of those that collapse onto it."""
    answer = named(output.completion, [*known["labels"], *(known["collapse"] or {})])
    return None if answer is None else {answer: 0.0}


def named(text: str, labels: Sequence[str]) -> str | None:
    """The one label that `text` names, as whole words and in any case; None for none or several.

    A label within another does not count: "non-entailment" names no entailment.
    """
    rest, names = text.lower(), []
    for label in sorted(set(labels), key=lambda label: (-len(label), label)):
        rest, times = re.subn(rf"(?<![\w-]){re.escape(label.lower())}(?![\w-])", " ", rest)
        if times:
            names.append(label)
    return names[0] if len(names) == 1 else None


def predictions(split: str, known: Mapping[str, Any], rows: Sequence[Row]) -> Predictions:
    """The record that a run makes of the same answers."""
    labels, groups = list(known["labels"]), list(known["groups"])
    names = list(dict.fromkeys(name for row in rows for name in row.logits))
    members = np.array([[group in row.groups for group in groups] for row in rows], bool)
    members = members.reshape(len(rows), len(groups))
    group = np.full(len(rows), -1)
    if not known["overlapping"]:
        group = np.array([groups.index(row.groups[0]) if row.groups else -1 for row in rows])
    of = [row.cluster or "" for row in rows]
    cluster, clusters = clusters_of(of) if any(of) else (None, ())
    return Predictions(
        task="",
        split=split,
        role="the model",
        model="",
        seed=0,
        ids=np.arange(len(rows)).astype(np.str_),
        logits=np.array(
            [[row.logits.get(name, -math.inf) for name in names] for row in rows], np.float32
        ),
        model_labels=tuple(names),
        label=np.array([labels.index(row.label) for row in rows], np.int64),
        labels=tuple(labels),
        group=group.astype(np.int64),
        groups=tuple(groups),
        aligned=np.array([row.aligned for row in rows], np.int64),
        cluster=cluster,
        clusters=clusters,
        collapse=known["collapse"],
        collapse_rule=known["collapse_rule"],
        train_groups=known["train_groups"],
        members=members if known["overlapping"] else None,
        labels_only=any(len(row.logits) == 1 for row in rows),
    )


class Answered(NamedTuple):
    """The scored rows of one set; an answer that names no label stands as a wrong one."""

    predictions: Predictions
    purpose: str
    unanswered: int


def answered(sets: Sets, scores: Sequence[SampleScore]) -> Iterator[tuple[str, Answered]]:
    """Every set that has scored samples; what comes of the others is undefined."""
    for split, known in sets.items():
        rows, unanswered, ids = [], 0, []
        for sample in scores:
            if fact(sample, "set") == split:
                row = row_of(sample, known["labels"])
                unanswered += sample.score.answer is None
                rows.append(row)
                ids.append(sample.sample_id)
        if len(set(ids)) < len(ids):  # with epochs: answers to one sample are not independent
            rows = [
                row if row.cluster else row._replace(cluster=str(sample))
                for row, sample in zip(rows, ids, strict=True)
            ]
        if rows:
            yield split, Answered(predictions(split, known, rows), known["purpose"], unanswered)


def row_of(sample: SampleScore, labels: Sequence[str]) -> Row:
    """A row of predictions from one sample's metadata and score."""
    gold, answer = fact(sample, "label"), sample.score.answer
    logits = (sample.score.metadata or {}).get(LOGITS)
    if logits is None:
        wrong = next(label for label in labels if label != gold)
        logits = {wrong if answer is None else answer: 0.0}
    cluster = (sample.sample_metadata or {}).get("cluster")
    return Row(logits, gold, fact(sample, "groups"), fact(sample, "aligned"), cluster)


def fact(sample: SampleScore, key: str) -> Any:
    """One entry of a sample's metadata. Raises ValueError naming the sample that lacks it."""
    if key not in (sample.sample_metadata or {}):
        raise ValueError(
            f"sample {sample.sample_id!r} has no {key!r} in its metadata: this metric is for the "
            f"samples of the tasks of harness_plugin."
        )
    return (sample.sample_metadata or {})[key]


@offered(metric, scores=EVERY_ANSWER)
def performance(sets: Sets, resampling: Mapping[str, Any] | None = None) -> Metric:
    """`<set>_acc`, `<set>_worst_group_acc`, and what else is defined of one set."""
    return measured(sets, resampling, ("performance", "calibration"))


@offered(metric, scores=EVERY_ANSWER)
def spurious_gaps(sets: Sets, resampling: Mapping[str, Any] | None = None) -> Metric:
    """`<set>_gap_…`: signed differences, 0 where both sides are treated alike."""
    return measured(sets, resampling, ("gap",))


def measured(sets: Sets, resampling: Mapping[str, Any] | None, kinds: Sequence[str]) -> Metric:
    """The registered metrics of these `kinds` on every set: `<set>_<metric>`, `…_low`, `…_high`.

    Values and 95% intervals are those of a run with these answers: `resampling` holds the `task`,
    `resamples`, `seed` and `min_group` of it. A minimum over groups is corrected; `…_plain` is the
    number without. What is undefined is left out: a log has no place for a number that does not
    exist.
    """
    known = load_plugins()["metric"].instances(metrics.Metric)
    chosen = {name: one for name, one in known.items() if one.kind in kinds}
    bootstrap = Bootstrap(**{**RESAMPLING, **(resampling or {})})

    def values(scores: list[SampleScore]) -> dict[str, float]:
        sets_answered = dict(answered(sets, scores))
        purposes = {split: those.purpose for split, those in sets_answered.items()}
        paired = {
            split: {"the model": (those.predictions,)} for split, those in sets_answered.items()
        }
        requested = {name: one for name, one in known.items() if name in chosen or name == "acc"}
        out: dict[str, float] = {}
        for split, quantities in measure_all(paired, purposes, requested, bootstrap).items():
            for name, q in quantities[""].items():
                # an answer that names no label is wrong, but of no class
                unanswered = sets_answered[split].unanswered
                if name not in chosen or (unanswered and name in ("f1", *FAIRNESS)):
                    continue
                one = estimate_of(q, "the model", 1)
                ends = {"": one.value, "_low": one.low, "_high": one.high}
                ends |= {"_plain": one.plain[0]} if one.plain else {}
                for end, value in ends.items():
                    if not math.isnan(value):
                        put(out, f"{split}_{name}{end}", float(value))
        return out

    return values


@offered(metric, scores=EVERY_ANSWER)
def group_accuracies(sets: Sets) -> Metric:
    """`<set>_acc_<group>` of every group with rows."""

    def numbers(those: Answered) -> Iterator[tuple[str, float]]:
        p = those.predictions
        accuracies = metrics.group_accuracies(p, np.ones((1, len(p))))[0]
        for group, accuracy in zip(p.groups, accuracies, strict=True):
            if not math.isnan(accuracy):
                yield f"acc_{group}", accuracy

    return of_every_set(sets, numbers)


@offered(metric, scores=EVERY_ANSWER)
def group_counts(sets: Sets) -> Metric:
    """`<set>_n_<group>`, and `<set>_unanswered`: rows whose answer names no label."""

    def numbers(those: Answered) -> Iterator[tuple[str, float]]:
        p = those.predictions
        for group, n in zip(p.groups, p.membership.sum(axis=0), strict=True):
            yield f"n_{group}", n
        yield "unanswered", those.unanswered

    return of_every_set(sets, numbers)


def of_every_set(sets: Sets, numbers: Callable[[Answered], Iterator[tuple[str, float]]]) -> Metric:
    """A metric of the numbers that answers to one set have, each behind the set's name."""

    def values(scores: list[SampleScore]) -> dict[str, float]:
        out: dict[str, float] = {}
        for split, those in answered(sets, scores):
            for name, value in numbers(those):
                put(out, f"{split}_{name}", float(value))
        return out

    return values


def put(out: dict[str, float], name: str, value: float) -> None:
    """Add a number. Raises ValueError where a set or group is named like another number."""
    if name in out:
        raise ValueError(f"two numbers are called {name!r}: rename the evaluation set or group.")
    out[name] = value
