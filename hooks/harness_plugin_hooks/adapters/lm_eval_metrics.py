"""Worst-group accuracy and gaps as aggregations of lm-evaluation-harness.

An item is what is kept of a document: (said, gold, groups, aligned), the predicted and the gold
label, the groups it belongs to, and whether the bias points to its label (1), away (0) or neither
(-1); a fifth value, where there is one, names the cluster of documents that are not independent. An
aggregation takes the items of all documents and gives the number that a run of ours gives,
by the same functions; None where it is not defined, never NaN. An item of a metric of this module
is its own value: each is registered as the identity, as that harness does for F1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeAlias

# that harness registers its own when it finds none: ours must not be the first
import lm_eval.api.metrics  # noqa: F401
import numpy as np
from lm_eval.api.registry import register_aggregation, register_metric

from harness_plugin.plugins.registry import load_plugins
from harness_plugin.records import Estimate, Predictions
from harness_plugin.scoring import score
from harness_plugin.scoring.bootstrap import Bootstrap
from harness_plugin.scoring.files import columns
from harness_plugin.scoring.measure import measure_set
from harness_plugin.scoring.metrics import Metric

Item: TypeAlias = (
    tuple[int | str, int | str, Sequence[int | str], int]
    | tuple[int | str, int | str, Sequence[int | str], int, str | None]
)

LOG = logging.getLogger(__name__)
RESAMPLES = 1000


@dataclass(frozen=True)
class Facts:
    """Facts of a set besides its documents; labels and groups of items are indices then.

    The interval is that of a run of ours with this one model: `task`, `split` and `seed` name its
    random stream.
    """

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    task: str = "task"
    split: str = "set"
    resamples: int = RESAMPLES
    seed: int = 0


def as_predictions(items: Sequence[Item], facts: Facts | None = None) -> Predictions:
    """The record of one model's answers; without `facts`, of the labels and groups that occur."""
    if facts is None:
        facts = Facts(
            tuple(map(str, ordered(label for item in items for label in item[:2]))),
            tuple(map(str, ordered(group for item in items for group in item[2]))),
        )
        label_index = {name: i for i, name in enumerate(facts.labels)}
        group_index = {name: i for i, name in enumerate(facts.groups)}
        predicted = [label_index[str(item[0])] for item in items]
        gold = [label_index[str(item[1])] for item in items]
        members = [[group_index[str(group)] for group in item[2]] for item in items]
    else:
        predicted, gold = [int(item[0]) for item in items], [int(item[1]) for item in items]
        members = [[int(group) for group in item[2]] for item in items]
    aligned = [item[3] for item in items]
    clusters = [item[4] for item in items if len(item) > 4 and item[4] is not None]
    plain = columns.as_predictions(
        predicted, gold, aligned=aligned, labels=facts.labels, clusters=clusters or None
    )
    membership = np.zeros((len(items), len(facts.groups)), dtype=np.bool_)
    for row, groups in enumerate(members):
        membership[row, groups] = True
    overlapping = bool((membership.sum(axis=1) > 1).any())
    group = np.where(membership.any(axis=1), membership.argmax(axis=1), -1) if facts.groups else -1
    return replace(
        plain,
        task=facts.task,
        split=facts.split,
        groups=facts.groups,
        group=np.full(len(items), -1) if overlapping else np.broadcast_to(group, len(items)),
        members=membership if overlapping else None,
    )


def ordered(names: Any) -> list[Any]:
    """The different ones, sorted as text."""
    return sorted(set(names), key=str)


def estimate(metric: Metric, items: Sequence[Item], facts: Facts | None = None) -> Estimate:
    """A metric with its 95% interval over documents, resampled within their groups."""
    p = as_predictions(items, facts)
    bootstrap = Bootstrap(p.task, *((facts.resamples, facts.seed) if facts else (RESAMPLES,)))
    quantities = measure_set({"model": (p,)}, [metric], bootstrap, p.split)
    return score.estimate_of(quantities[metric.name], "model", 1)


def number(metric: Metric, items: Sequence[Item]) -> float | None:
    """The value, a minimum over groups corrected; None with a warning where it is not defined."""
    measured = estimate(metric, items)
    if math.isnan(measured.value):
        LOG.warning("%s is not defined: %s.", metric.name, measured.reason)
        return None
    return measured.value


def item_of(item: Item) -> Item:
    """The value of a metric on one document: its item."""
    return item


def group_acc(items: Sequence[float | None]) -> float | None:
    """Share of right ones (1.0) among the documents of a group; the others are None."""
    inside = [item for item in items if item is not None]
    return sum(inside) / len(inside) if inside else None


@cache
def metrics_of_answers() -> dict[str, Metric]:
    """Every registered metric that labels, groups and alignment of one set's documents decide."""
    every = load_plugins()["metric"].instances(Metric)
    return {name: m for name, m in every.items() if m.of_labels and not m.against_in_domain}


def register() -> None:
    """Make `debias_<metric>` known to lm_eval: an aggregation, and the metric it is that of."""
    for metric in metrics_of_answers().values():
        name = f"debias_{metric.name}"
        register_aggregation(name)(partial(number, metric))
        register_metric(metric=name, higher_is_better=metric.higher_is_better, aggregation=name)(
            item_of
        )


register()
