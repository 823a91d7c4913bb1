"""Is the debiasing kept? A state by the rule of docs/verdicts.md, and its sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness_plugin.records import Evidence, TaskScores, VarianceComponents, VerdictRule
from harness_plugin.scoring.evidence import change_of, gain_of
from harness_plugin.scoring.statistics.intervals import (
    TAIL,
    at_seeds,
    bounds,
    half_width,
    size_change,
)

State: TypeAlias = Literal["kept", "lost", "nothing_to_keep", "undecided"]
Note: TypeAlias = Literal["reversed", "no_reference", "one_class"]

BY_GAP, BY_WORST = 0.015, 0.010
"""One-sided errors of `lost`, and of a gain, by either route: 2.5% in all (Bonferroni)."""
MOST_SEEDS = 20
"""More than these are not advised; rows are."""
MORE_ROWS = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Verdict:
    """Is the debiasing kept by one student on one evaluation set? Given on its primary gap."""

    task: str
    student: str
    split: str
    gap: str
    state: State
    sentence: str
    notes: tuple[Note, ...] = ()


def verdicts(scores: TaskScores, rule: VerdictRule | None = None) -> list[Verdict]:
    """One a student and evaluation set with a gap, students by name; none without a teacher."""
    evidence = sorted(scores.evidence, key=lambda e: e.student)
    return [verdict(scores.task, e, rule or scores.rule) for e in evidence]


def verdict(task: str, e: Evidence, rule: VerdictRule) -> Verdict:
    """The verdict on one student and evaluation set.

    - `undecided` where no claim can be made: fewer than `rule.min_seeds` seeds, too few rows.
    - `nothing_to_keep` unless the teacher's gain over its ERM reference is shown: a smaller size of
      the gap (bound of one-sided error 1.5%) or a better worst group (1%).
    - `lost` where the gap's size grows by more than the margin (1.5%) or worst-group accuracy falls
      by more (1%). `kept` where both are shown not to (2.5% each). Else `undecided`.
    - Notes: `reversed` where the gap is lost and its sign has turned, `no_reference` without an ERM
      reference, `one_class` where a model answers (nearly) one label only.
    """
    state, why = decided(e, rule)
    notes: list[Note] = []
    if state == "lost" and turned(e):
        notes.append("reversed")
        why += (
            f" The gap has turned over, from {points(float(e.teacher_gap.value))} to "
            f"{points(float(e.student_gap.value))}: another bias."
        )
    if gain_of(e) is None:
        notes.append("no_reference")
        why += " There is no ERM reference: whether the teacher was debiased is not shown."
    if e.one_class:
        notes.append("one_class")
        answers = "; ".join(f"{role} answers {words}" for role, words in e.one_class.items())
        why += f" Beware: {answers}."
    return Verdict(
        task, e.student, e.split, e.gap, state, f"{e.student} on {e.split}: {why}", tuple(notes)
    )


def decided(e: Evidence, rule: VerdictRule) -> tuple[State, str]:
    """The state and the reason for it."""
    seeds = e.distinct_seeds
    if e.reason:
        return "undecided", f"{e.gap} cannot be compared: {e.reason}."
    if seeds < rule.min_seeds:
        change = size_change(change_of(e))
        return "undecided", (
            f"the size of {e.gap} changes by {points(float(change.value))} points; {seeds} "
            f"seed(s){cloned(e)}, a verdict needs {rule.min_seeds}."
        )
    gain = gain_shown(e)
    if gain is not None:
        return "nothing_to_keep", f"{gain} ({seeds} seeds)."
    limit = f"the margin of {100 * rule.margin:g} points"
    change = size_change(change_of(e))
    least = float(size_change(change_of(e), BY_GAP).low)
    grows = f"the size of {e.gap} changes by {points(float(change.value))} points"
    if least > rule.margin:
        return "lost", (
            f"{grows} from teacher to student, at least {points(least)} (98.5% bound, {seeds} "
            f"seeds), more than {limit}: debiasing is lost."
        )
    falls, falls_most, drop_least, drop_most = "", "", -1.0, -1.0
    if e.drop is not None:
        drop_least = float(bounds(e.drop, BY_WORST).low)
        drop_most = float(bounds(e.drop).high)
        falls = f"worst_group_acc changes by {points(-float(e.drop.value))}"
        falls_most = f", {falls}, at least {points(-drop_most)}"
    if drop_least > rule.margin:
        return "lost", (
            f"{falls} points from teacher to student, at most {points(-drop_least)} (99% bound, "
            f"{seeds} seeds), a fall of more than {limit}: debiasing is lost."
        )
    most = float(change.high)
    if most < rule.margin and drop_most < rule.margin:
        return "kept", (
            f"{grows} from teacher to student, at most {points(most)}{falls_most} (97.5% bounds, "
            f"{seeds} seeds), both within {limit}: debiasing is kept."
        )
    return "undecided", (
        f"{grows} from teacher to student, {points(least)} to {points(most)}{falls_most} ({seeds} "
        f"seeds): not shown on either side of {limit}. To decide: {'; '.join(needs(e, rule))}."
    )


def cloned(e: Evidence) -> str:
    """A note on seeds that answer alike."""
    more = e.change.n_seeds - e.distinct_seeds
    return f" ({more} more answer as one of them does)" if more else ""


def gain_shown(e: Evidence) -> str | None:
    """None where the teacher's gain over ERM is shown, or there is no reference; else the words."""
    gain = gain_of(e)
    if gain is None:
        return None
    change = size_change(gain, BY_GAP)
    worst = None if e.reference_drop is None else bounds(e.reference_drop, BY_WORST)
    if change.high < 0 or (worst is not None and worst.low > 0):
        return None
    words = (
        f"no gain of the teacher over ERM is shown, so that there is nothing to keep: the size of "
        f"{e.gap} changes by {points(float(change.value))} points, at most "
        f"{points(float(change.high))} (98.5% bound)"
    )
    if worst is not None:
        words += (
            f", worst_group_acc by {points(float(worst.value))}, at least "
            f"{points(float(worst.low))} (99% bound)"
        )
    return words


def turned(e: Evidence) -> bool:
    """Whether the signs of both gaps are shown and differ."""
    new, old = bounds(e.student_gap), bounds(e.teacher_gap)
    return bool((new.low > 0 and old.high < 0) or (new.high < 0 and old.low > 0))


def needs(e: Evidence, rule: VerdictRule) -> Iterator[str]:
    """Seeds or rows that would decide, if values and spreads stay; first by the gap."""
    same_side = float(e.student_gap.value) * float(e.teacher_gap.value) >= 0
    spread = e.change if same_side else e.total
    grown = float(size_change(change_of(e)).value)
    lost_by_gap, lost_by_worst = grown > rule.margin, False
    if e.drop is not None:
        lost_by_worst = float(e.drop.value) > rule.margin
    if lost_by_gap or not lost_by_worst:
        yield "for the gap " + needed(
            e, spread, abs(grown - rule.margin), BY_GAP if lost_by_gap else TAIL
        )
    if e.drop is not None and (lost_by_worst or not lost_by_gap):
        distance = abs(float(e.drop.value) - rule.margin)
        yield "for the worst group " + needed(
            e, e.drop, distance, BY_WORST if lost_by_worst else TAIL
        )


def needed(e: Evidence, c: VarianceComponents, distance: float, tail: float) -> str:
    """Seeds, or rows, at which a bound is nearer to the value than `distance`."""
    for seeds in range(c.n_seeds, MOST_SEEDS + 1):
        if half_width(at_seeds(c, seeds), tail) < distance:
            return "the bound is there" if seeds == c.n_seeds else f"about {seeds} seeds would do"
    of = f", above all of {e.noisiest} ({e.noisiest_rows:,})" if e.noisiest else ""
    for times in MORE_ROWS:
        if half_width(at_seeds(c, MOST_SEEDS, times), tail) < distance:
            return f"{times:g} times the rows would do with {MOST_SEEDS} seeds{of}"
    return "neither 20 seeds nor 100 times the rows would do: the value is too near the margin"


def points(fraction: float) -> str:
    """A signed fraction in percentage points."""
    return f"{100 * fraction:+.1f}"
