"""The regression gate: limits on how much worse a candidate may be, and a three-state verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness_plugin.data.yaml_files import read_yaml
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.records import DEFAULT_RULE
from harness_plugin.scoring.comparison import (
    Change,
    Evaluated,
    SetFlips,
    changes,
    flips_in,
    pair,
)
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.pairing import PairedPredictions
from harness_plugin.scoring.statistics.significance import MOST_SEEDS, POWER, seeds_needed
from harness_plugin.scoring.verdict import points

State: TypeAlias = Literal["pass", "regressed", "undecided"]

PRIMARY_GAP = "primary_gap"
"""Stands for an evaluation set's primary gap."""


class Gate(BaseModel):
    """One limit: how much a performance may drop, or a gap or an error may increase."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = Field(description="its name, or primary_gap")
    max_drop: float | None = Field(None, ge=0, lt=1)
    max_increase: float | None = Field(None, ge=0, lt=2)
    task: str | None = Field(None, description="default: every task")
    split: str | None = Field(None, description="default: every evaluation set that has the metric")
    subset: str = Field("", description='"group=NAME" or "BREAKDOWN=VALUE"; default: the whole set')
    optional: bool = Field(False, description="whether it may check nothing of a task")

    @model_validator(mode="after")
    def _one_limit(self) -> Gate:
        if (self.max_drop is None) == (self.max_increase is None):
            raise ValueError(f"gate on {self.metric}: expected either max_drop or max_increase")
        return self

    @property
    def limit(self) -> float:
        """The change for the worse that is allowed."""
        return (self.max_drop or 0.0) + (self.max_increase or 0.0)  # one of them is None


class Thresholds(BaseModel):
    """Everything a verdict depends on besides the predictions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gates: tuple[Gate, ...] = Field(min_length=1)
    min_seeds: int = Field(DEFAULT_RULE.min_seeds, ge=1)
    min_group: int = Field(DEFAULT_RULE.min_group, ge=1)
    resamples: int = Field(2000, ge=100)


def read_thresholds(file: Path, **rest: int) -> Thresholds:
    """The thresholds of a YAML file; HarnessError that names the file and the key.

    `rest`, `min_seeds` and `resamples`, come before what the file says.
    """
    raw, _ = read_yaml(file)
    try:
        return Thresholds.model_validate({**raw, **rest})
    except ValidationError as error:
        raise HarnessError(f"{file}: {complaint(error)}") from None


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}." if where else f"{first['msg']}."


def default_thresholds(
    metric: Sequence[str] = (),
    max_drop: float | None = None,
    max_gap_increase: float | None = None,
    *,
    margin: float = DEFAULT_RULE.margin,
    known: Mapping[str, Metric],
    **rest: int,
) -> Thresholds:
    """A gate on each `metric` (accuracy and worst group if none) and on the primary gaps.

    Metrics that are not named are left out where they are undefined. `margin` stands for a limit
    that is not given. `rest` are `min_seeds`, `min_group` and `resamples`.

    Raises HarnessError for a value out of range.
    """
    max_drop = margin if max_drop is None else max_drop
    max_gap_increase = margin if max_gap_increase is None else max_gap_increase
    gates = []
    for name in metric or ("acc", "worst_group_acc"):
        if name not in known:
            raise unknown("metric", name, known)
        key = "max_drop" if known[name].higher_is_better else "max_increase"
        limit = max_drop if known[name].higher_is_better else max_gap_increase
        gates.append({"metric": name, key: limit, "optional": not metric})
    gates.append({"metric": PRIMARY_GAP, "max_increase": max_gap_increase, "optional": True})
    try:
        return Thresholds.model_validate({"gates": gates, **rest})
    except ValidationError as error:
        raise HarnessError(complaint(error)) from None


def thresholds_from(
    file: Path | None,
    limits: Mapping[str, Any],
    rest: Mapping[str, int | None],
    known: Mapping[str, Metric],
) -> Thresholds:
    """The thresholds of a file, or of `limits` (metric, max_drop, max_gap_increase, margin).

    `rest`: min_seeds, min_group, resamples. None stands for what was not said.

    Raises HarnessError for both.
    """
    limits = {name: value for name, value in limits.items() if value is not None}
    chosen: dict[str, Any] = {name: value for name, value in rest.items() if value is not None}
    if file is None:
        return default_thresholds(**limits, known=known, **chosen)
    if limits:
        raise HarnessError(f"--{next(iter(limits))}: the limits are in {file} already.")
    return read_thresholds(file, **chosen)


@dataclass(frozen=True)
class Check:
    """One gate on one evaluation set: what was measured and what that means."""

    gate: Gate
    metric: Metric
    split: str
    change: Change
    state: State
    sentence: str
    seeds_needed: int | None
    """Seeds at which an unchanged model would pass with 80% power; None: 1000 do not suffice."""

    @property
    def name(self) -> str:
        """`split/metric`, with the subset if there is one."""
        return "/".join(filter(None, (self.split, self.gate.subset, self.metric.name)))


@dataclass(frozen=True)
class Comparison:
    """Everything `harness compare` says of one task."""

    baseline: Evaluated
    candidate: Evaluated
    thresholds: Thresholds
    checks: tuple[Check, ...]
    flips: tuple[SetFlips, ...]
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """The task compared."""
        return self.candidate.task

    @property
    def pairs(self) -> int:
        """Pairs of models, one a seed."""
        return max(len(self.baseline.seeds), len(self.candidate.seeds))

    @property
    def distinct_seeds(self) -> int:
        """Different models of the candidate, or of the baseline where the candidate is one."""
        return different(self.baseline, self.candidate)

    @property
    def state(self) -> State:
        """Regressed if any check is, else undecided if any is, else pass."""
        return worst(check.state for check in self.checks)


def different(baseline: Evaluated, candidate: Evaluated) -> int:
    """Seeds that a verdict on the candidate stands on: equal answers are one training."""
    side = candidate if len(candidate.seeds) > 1 else baseline
    return side.distinct_seeds


def worst(states: Iterator[State]) -> State:
    """Regressed before undecided before pass."""
    distinct = set(states)
    order: tuple[State, ...] = ("regressed", "undecided")
    return next((state for state in order if state in distinct), "pass")


def compare(
    baseline: Evaluated,
    candidate: Evaluated,
    thresholds: Thresholds,
    known: Mapping[str, Metric],
    seed: int = 0,
) -> Comparison:
    """Pair both sides by example id and seed and put every gate about their task to the test.

    `known`: the metrics that gates may name. Raises HarnessError for sides that cannot be compared,
    for a gate that names what does not exist or checks nothing, and for a task without a gate.
    """
    table = pair(baseline, candidate)
    gates = [gate for gate in thresholds.gates if gate.task in (None, candidate.task)]
    targets_of = [(gate, targets(gate, candidate, list(table), known)) for gate in gates]
    names = {name for _, changed_by_task in targets_of for name in changed_by_task.values() if name}
    changed_by_task = changes(
        {split: with_breakdowns_of(gates, paired) for split, paired in table.items()},
        candidate.purposes,
        {name: known[name] for name in sorted(names)},
        task=candidate.task,
        resamples=thresholds.resamples,
        seed=seed,
        min_group=thresholds.min_group,
    )
    seeds = different(baseline, candidate)
    checks: list[Check] = []
    notes: list[str] = []
    for gate, target in targets_of:
        reasons = []
        for split, name in target.items():
            change = changed(changed_by_task[split], split, gate, name)
            if isinstance(change, Change):
                made = check(gate, known[name], split, change, seeds, thresholds.min_seeds)
                listed = {(done.name, done.sentence) for done in checks}
                if (made.name, made.sentence) not in listed:  # a primary gap, by its name as well
                    checks.append(made)
            else:
                reasons.append(f"{name or gate.metric} is not checked on {split}: {change}")
        if len(reasons) == len(target) and not gate.optional:
            raise HarnessError(f"task {candidate.task!r}: a gate checks nothing: {reasons[0]}.")
        notes += reasons
    if not checks:
        raise HarnessError(f"task {candidate.task!r}: no gate checks anything of it.")
    checks.sort(key=lambda done: list(table).index(done.split))
    flips = flips_in(table)
    return Comparison(baseline, candidate, thresholds, tuple(checks), flips, tuple(notes))


def targets(
    gate: Gate, candidate: Evaluated, splits: Sequence[str], known: Mapping[str, Metric]
) -> dict[str, str]:
    """Set -> metric that a gate is about; "" where the set has no primary gap.

    Raises HarnessError for an unknown set or metric, and for a limit of the wrong direction.
    """
    if gate.split is not None and gate.split not in splits:
        raise unknown("evaluation set", gate.split, splits)
    if gate.metric != PRIMARY_GAP and gate.metric not in known:
        raise unknown("metric", gate.metric, [*known, PRIMARY_GAP])
    better = gate.metric in known and known[gate.metric].higher_is_better
    if better != (gate.max_increase is None):
        right, wrong = ("max_drop", "max_increase") if better else ("max_increase", "max_drop")
        raise HarnessError(f"gate on {gate.metric}: expected {right}, found {wrong}.")
    about = [split for split in splits if gate.split in (None, split)]
    if gate.metric == PRIMARY_GAP:
        return {split: candidate.primary.get(split, "") for split in about}
    return dict.fromkeys(about, gate.metric)


def with_breakdowns_of(gates: Sequence[Gate], paired: PairedPredictions) -> PairedPredictions:
    """The predictions with those bias types only that a gate looks into: the others cost time."""
    names = {gate.subset.partition("=")[0] for gate in gates}
    return {
        role: tuple(
            replace(p, breakdowns={k: v for k, v in p.breakdowns.items() if k in names})
            for p in predictions
        )
        for role, predictions in paired.items()
    }


def changed(
    changes: Mapping[str, Mapping[str, Change | str]], split: str, gate: Gate, name: str
) -> Change | str:
    """The change a gate is about, or why there is none; HarnessError for an unknown subset."""
    if not name:
        return "no gap is defined there"
    if gate.subset not in changes:
        if gate.split is None:
            return f"it has no {gate.subset}"
        raise unknown(f"subset of {split!r}", gate.subset, filter(None, changes))
    part = f"within {gate.subset}" if gate.subset else "there"
    return changes[gate.subset].get(name, f"it is not defined {part}")


def check(
    gate: Gate, metric: Metric, split: str, change: Change, distinct_seeds: int, min_seeds: int
) -> Check:
    """The verdict on one gate.

    Regressed when the whole interval of the change lies above the limit, pass when none of it does,
    undecided when it reaches across and with fewer than `min_seeds` different models.
    """
    limit = gate.limit
    seeds = len(change.baseline.seeds)
    needed = seeds_needed(change.seeds.sd, limit) if seeds > 1 else None
    size = " in size" if metric.kind == "gap" else ""
    sentence = f"{moved(change.value)}{size}{interval_of(change)}, {seeds} seed(s))"
    if metric.kind == "gap" and change.baseline.value * change.candidate.value < 0:
        before, now = points(change.baseline.value), points(change.candidate.value)
        sentence += f", turned over from {before} to {now}"
    allowed = f"the limit of {100 * limit:g} points"

    def result(state: State, why: str) -> Check:
        return Check(gate, metric, split, change, state, f"{sentence}{why}", needed)

    if distinct_seeds < min_seeds:
        alike = f" ({distinct_seeds} different)" if distinct_seeds < seeds else ""
        return result("undecided", f": too few seeds{alike}, a verdict needs {min_seeds}.")
    if math.isnan(change.low):
        return result("undecided", f": {change.reason}.")
    if change.low > limit:
        return result("regressed", f", more than {allowed}.")
    if change.high > limit:
        across = f", on both sides of {allowed}"
        if change.examples[1] > limit >= change.examples[0]:
            return result("undecided", f"{across}: too few examples ({change.baseline.n:,}).")
        return result("undecided", f"{across}: too few seeds{at_least(needed)}.")
    return result("pass", f", within {allowed}.")


def moved(change: float) -> str:
    """`is worse by 4.9 points`, or better."""
    return f"is {'worse' if change > 0 else 'better'} by {100 * abs(change):.1f} points"


def interval_of(change: Change) -> str:
    """` (95% interval of the change for the worse +1.0 to +8.8`, the bracket left open."""
    if math.isnan(change.low):
        return " (no interval"
    between = f"{points(change.low)} to {points(change.high)}"
    return f" (95% interval of the change for the worse {between}"


def at_least(needed: int | None) -> str:
    """How many seeds would do, as a part of a sentence."""
    if needed is None:
        return f", and {MOST_SEEDS:,} would not do"
    return f", {needed} would let an unchanged model pass with {POWER:.0%} power"
