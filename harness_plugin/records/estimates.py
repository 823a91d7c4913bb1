"""Numbers with their uncertainty, and what a metric is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from harness_plugin.records.predictions import Floats


@dataclass(frozen=True)
class VarianceComponents:
    """A mean over seeds and the variances its interval is made of (scoring.intervals).

    All are scalars, or arrays of any one shape. `rows`: of the mean, over rows, given these seeds;
    `own`: the part of it that seeds do not share; `seeds`: of the mean, as the seeds show it (s2 /
    S, nan for one seed). `df`: degrees of freedom of the rows' part.
    """

    value: Floats
    rows: Floats
    own: Floats
    seeds: Floats
    n_seeds: int
    df: float


IntervalOf: TypeAlias = Literal["", "rows", "seeds and rows"]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty; what is undefined is nan, and `reason` says why.

    `value`: the mean over seeds. `low`, `high`: 95% interval over rows and seeds by the rule of
    docs/verdicts.md, or nan with the `reason`. `seeds`: the value of each seed; `sd` their standard
    deviation (ddof 1, nan for one seed). `n`: rows of the evaluation set (or group, or subset).
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    sd: float = float("nan")
    seeds: tuple[float, ...] = ()
    n: int = 0
    reason: str = ""
    errors: tuple[float, ...] = ()
    """The bootstrap standard error of each seed's value."""
    intervals: tuple[tuple[float, float], ...] = ()
    """95% interval of each seed's value, over rows alone; nan where it is undefined."""
    interval_of: IntervalOf = ""
    """"rows" for one seed: it says nothing of other seeds; "" without an interval."""
    plain: tuple[float, ...] = ()
    """Of a minimum over groups: each seed's number without the correction, as papers print it."""
    design_effect: float | None = None
    """Of an accuracy of clustered rows: its variance over that of as many independent rows."""
    components: VarianceComponents | None = field(default=None, repr=False, compare=False)
    """Variances behind the interval; None without one, and in numbers read back from a file."""


@dataclass(frozen=True)
class MetricInfo:
    """Description of a metric, without its function.

    `kind`: a "gap" is a signed difference (0 = treats both sides alike), "performance" and
    "calibration" stand alone. `bounds`: the lowest and highest value there can be.
    """

    name: str
    kind: Literal["performance", "gap", "calibration"]
    bounds: tuple[float, float]
    higher_is_better: bool
    summary: str


@dataclass(frozen=True)
class ModelScores:
    """The scores of one role on one evaluation set over all seeds, keyed by metric name."""

    role: str
    split: str
    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Estimate]
    """Accuracy by group name."""
    breakdowns: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    """breakdown -> value ("lexical_overlap") -> metric -> estimate."""
    distinct_seeds: int
    """Different models behind the numbers: those that answer every set alike are one training."""

    def by_subset(self) -> dict[str, Mapping[str, Estimate]]:
        """Metric -> estimate on all rows (""), on "group=NAME" and on "BREAKDOWN=VALUE"."""
        return {
            "": self.metrics,
            **{f"group={name}": {"acc": estimate} for name, estimate in self.groups.items()},
            **{
                f"{breakdown}={value}": metrics
                for breakdown, values in self.breakdowns.items()
                for value, metrics in values.items()
            },
        }


@dataclass(frozen=True)
class Transfer:
    """One measure of one student on one evaluation set: student against teacher or control.

    `measure` is distillability, contribution, gap_widening, gap_size_change or retention; `subset`
    is "" for the whole set, "group=NAME" or "BREAKDOWN=VALUE".
    """

    student: str
    split: str
    subset: str
    metric: str
    measure: str
    estimate: Estimate
