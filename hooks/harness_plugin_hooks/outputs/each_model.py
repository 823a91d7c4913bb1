"""The facts in the files of one model: its folder, its answers, its numbers set by set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness_plugin.records import (
    Estimate,
    MetricInfo,
    Predictions,
    RunReport,
    TaskScores,
    TrainedModel,
)
from harness_plugin.scoring.metrics import ACC


@dataclass(frozen=True)
class Number:
    """One number of one model (one seed) on one evaluation set; nan = undefined, see `reason`.

    `error` and the 95% interval `low`, `high` are of the bootstrap over examples.
    """

    name: str
    metric: MetricInfo
    group: str
    value: float
    error: float
    low: float
    high: float
    n: int
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One model of a report, and the name of its folder."""

    scores: TaskScores
    model: TrainedModel
    folder: str

    @cached_property
    def predictions(self) -> list[Predictions]:
        """The model's predictions, a record an evaluation set."""
        model = self.model
        return [p for p in self.scores.predictions if (p.role, p.seed) == (model.role, model.seed)]

    @property
    def embedded(self) -> str:
        """Mark of numbers of generated data that could be read alone; "" for real data."""
        return "embedded data" if self.scores.source == "embedded" else ""

    def numbers(self, split: str) -> Iterator[Number]:
        """Every metric on one set, then the accuracy of every group, called `acc_<group>`."""
        score = self.scores.of(self.model.role, split)
        for name, estimate in score.metrics.items():
            yield self.number(name, self.scores.metrics[name], "", estimate)
        for group, estimate in score.groups.items():
            yield self.number(f"acc_{group}", ACC.info, group, estimate)

    def number(self, name: str, metric: MetricInfo, group: str, estimate: Estimate) -> Number:
        """This model's part of an estimate over seeds."""
        seed = self.scores.seeds.index(self.model.seed)
        low, high = estimate.intervals[seed]
        value, error = estimate.seeds[seed], estimate.errors[seed]
        return Number(name, metric, group, value, error, low, high, estimate.n, estimate.reason)


def each_model(report: RunReport) -> Iterator[Evaluated]:
    """Every model of every task, each with a folder of its own.

    Two checkpoints in folders of one name, or one in two tasks, get task, role and seed besides.
    """
    names = Counter(model.name for scores in report.tasks for model in scores.models)
    for scores in report.tasks:
        for model in scores.models:
            folder = model.name.replace("/", "__")
            if names[model.name] > 1:
                folder += f"-{scores.task}-{model.role}-seed{model.seed}"
            yield Evaluated(scores, model, folder)


def set_name(predictions: Predictions) -> str:
    """An evaluation set as a task name: `hans_id`; `hans` for the set named like its task."""
    if predictions.split == predictions.task:
        return predictions.task
    return f"{predictions.task}_{predictions.split}"
