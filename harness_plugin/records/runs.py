"""Results of a run: its models, the scores of every task, and the report of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.records.estimates import Estimate, MetricInfo, ModelScores, Transfer
from harness_plugin.records.predictions import Predictions
from harness_plugin.records.verdicts import DEFAULT_RULE, Evidence, Flips, VerdictRule

if TYPE_CHECKING:
    import pandas as pd

    from harness_plugin.data.task import HubSet


@dataclass(frozen=True)
class TrainedModel:
    """One model of one role and seed: what it is, where it lies, what it took."""

    task: str
    role: str
    seed: int
    name: str
    path: Path
    model: str
    """Preset or checkpoint that it started from."""
    method: str
    """Its method; "as saved" and "predictions" for models that came from elsewhere."""
    settings: Mapping[str, Any]
    """Other facts of its training, as JSON, for its record; nothing is computed from them."""
    supervision: Mapping[str, Any] | None = None
    """Which labels besides the task's own it was trained and chosen with."""
    selection: Mapping[str, Any] | None = None
    """Which update was kept, and by what; None for the last."""
    key: str = ""
    """Key of the stage that made it, or the hash of a checkpoint's weights."""
    kind: str = ""
    """A value of `RoleKind`; "" where only the role's name is known."""
    start: str = ""
    """The teacher's layers that its first weights were; "" for a start of its own."""
    labels: tuple[str, ...] = ()
    """In the order of its logits."""
    max_length: int = 0
    """Tokens that texts are cut to; 0 where none are read."""
    updates: int = 0
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class TaskScores:
    """Everything scored for one task."""

    task: str
    source: str
    fingerprint: str
    collapse_rule: str
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    models: tuple[TrainedModel, ...]
    scores: tuple[ModelScores, ...]
    transfer: tuple[Transfer, ...]
    predictions: tuple[Predictions, ...] = ()
    """All predictions the numbers come from, in the order (role, seed, split)."""
    primary: Mapping[str, str] = field(default_factory=dict)
    """Evaluation set -> its primary gap."""
    purposes: Mapping[str, str] = field(default_factory=dict)
    """Evaluation set -> "in_domain" or "ood", in-domain sets first."""
    metrics: Mapping[str, MetricInfo] = field(default_factory=dict, repr=False)
    """Description of each metric, by name."""
    hub_sets: Mapping[str, HubSet] = field(default_factory=dict)
    """Evaluation set -> the hub split that it is, row for row; empty for data from elsewhere."""
    evidence: tuple[Evidence, ...] = ()
    """The numbers behind each verdict, one for each student and set with a gap."""
    flips: tuple[Flips, ...] = ()
    """Answers that change from teacher and from control to each student."""
    rule: VerdictRule = DEFAULT_RULE
    """The default rule of verdicts."""

    def of(self, role: str, split: str) -> ModelScores:
        """The scores of `role` on `split`."""
        return next(s for s in self.scores if s.role == role and s.split == split)

    @cached_property
    def higher_is_better(self) -> dict[str, bool]:
        """By metric name, as the metrics declare it."""
        return {name: metric.higher_is_better for name, metric in self.metrics.items()}

    def transfer_of(
        self, student: str, split: str, metric: str, measure: str, subset: str = ""
    ) -> Estimate | None:
        """One measure of one student; None where it was not measured, as for other roles.

        `measure`: distillability, contribution, gap_widening, gap_size_change or retention.
        `subset`: "" for the whole set, "group=NAME" or "BREAKDOWN=VALUE".
        """
        return self._measures.get((student, split, subset, metric, measure))

    @cached_property
    def _measures(self) -> dict[tuple[str, str, str, str, str], Estimate]:
        return {
            (t.student, t.split, t.subset, t.metric, t.measure): t.estimate for t in self.transfer
        }

    def rows(self, *, by_seed: bool = False) -> Iterator[dict[str, Any]]:
        """Every number as a flat row: scores first, then what is measured between models.

        Keys: task, source, split, purpose, subset, role, metric, measure ("score", or one of
        the transfer measures), seed (None: over all seeds), value, low, high (95% interval), sd,
        seeds (how many), n (rows of the set), higher_is_better, reason (why a value is nan).
        With `by_seed` the number over all seeds is followed by that of each seed, its interval
        over examples alone; a ratio of means over seeds (retention) has none.
        """
        for score in self.scores:
            for subset, metrics in score.by_subset().items():
                for metric, estimate in metrics.items():
                    of = (score.split, subset, score.role, metric, "score")
                    yield from self._rows_of(*of, estimate, by_seed)
        for t in self.transfer:
            of = (t.split, t.subset, t.student, t.metric, t.measure)
            yield from self._rows_of(*of, t.estimate, by_seed)

    def _rows_of(
        self,
        split: str,
        subset: str,
        role: str,
        metric: str,
        measure: str,
        estimate: Estimate,
        by_seed: bool,
    ) -> Iterator[dict[str, Any]]:
        of = {
            "task": self.task,
            "source": self.source,
            "split": split,
            "purpose": self.purposes[split],
            "subset": subset,
            "role": role,
            "metric": metric,
            "measure": measure,
        }
        also = {
            "n": estimate.n,
            "higher_is_better": self.higher_is_better.get(metric),
            "reason": estimate.reason,
        }

        def row(
            seed: int | None, value: float, low: float, high: float, sd: float, seeds: int
        ) -> dict[str, Any]:
            numbers = {"value": value, "low": low, "high": high, "sd": sd, "seeds": seeds}
            return {**of, "seed": seed, **numbers, **also}

        e = estimate
        yield row(None, e.value, e.low, e.high, e.sd, len(self.seeds))
        if by_seed:
            unknown = ((float("nan"), float("nan")),) * len(e.seeds)  # a run that was read back
            of_seeds = zip(e.seeds, e.intervals or unknown, strict=True)
            for seed, (value, (low, high)) in zip(self.seeds, of_seeds, strict=False):
                yield row(seed, value, low, high, float("nan"), 1)

    def to_pandas(self, *, by_seed: bool = False) -> pd.DataFrame:
        """`rows` as a data frame, one row a number; nan where a number is undefined."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(by_seed=by_seed)))


@dataclass(frozen=True)
class RunReport:
    """The whole run: its resolved configuration, the machine, and the scores of every task."""

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    tasks: tuple[TaskScores, ...]
    started: float
    seconds: float
    files: tuple[Path, ...] = ()
