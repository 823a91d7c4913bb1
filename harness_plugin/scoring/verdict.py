"""Is the debiasing kept? Three states, and a sentence with the numbers behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness_plugin.records import TaskScores

State: TypeAlias = Literal["lost", "kept", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """Is the debiasing kept by one student on one evaluation set? Told on its primary gap."""

    task: str
    student: str
    split: str
    gap: str
    state: State
    sentence: str


MARGIN = 0.02
MIN_SEEDS = 3


def verdict(
    scores: TaskScores,
    student: str,
    split: str,
    *,
    margin: float = MARGIN,
    min_seeds: int = MIN_SEEDS,
) -> tuple[State, str]:
    """Is the debiasing kept by `student` on `split`? A state and a sentence with the numbers.

    Told on the widening of the set's primary gap: "lost" when its 95% interval lies above
    `margin`, "kept" when it lies below, "undecided" when it reaches across, when there are fewer
    than `min_seeds` seeds, and when the gap has turned over and grown.
    """
    subject = f"{student} on {split}:"
    gap = scores.primary.get(split)
    widening = None if gap is None else scores.transfer_of(student, split, gap, "gap_widening")
    if gap is None or widening is None:
        return "undecided", f"{subject} no gap to compare with the teacher's."
    if math.isnan(widening.low):
        return "undecided", f"{subject} {gap} cannot be compared: {widening.reason}."
    seeds = len(widening.seeds)
    numbers = (
        f"{subject} {gap} changes by {points(widening.value)} points from teacher to student (95% "
        f"interval {points(widening.low)} to {points(widening.high)}, {seeds} seed(s))"
    )
    limit = f"the margin of {100 * margin:g} points"
    if seeds < min_seeds:
        return "undecided", f"{numbers}: {seeds} seed(s), a verdict needs {min_seeds}."
    if widening.low > margin:
        return "lost", f"{numbers}, more than {limit}: debiasing is lost."
    if not widening.high < margin:
        return "undecided", f"{numbers}, on both sides of {limit}: not shown either way."
    now, before = (scores.of(role, split).metrics[gap] for role in (student, "teacher"))
    if now.high < -margin and -now.value > abs(before.value) + margin:
        turned = f"the gap has turned over, from {points(before.value)} to {points(now.value)}"
        return "undecided", f"{numbers}, but {turned}: another bias, not a smaller one."
    return "kept", f"{numbers}, less than {limit}: debiasing is kept."


def verdicts(scores: TaskScores) -> list[Verdict]:
    """One a student and evaluation set with a gap, students by name; none without a student."""
    students = sorted({m.role for m in scores.models if m.role.startswith("student")})
    return [
        Verdict(scores.task, student, split, gap, *verdict(scores, student, split))
        for student in students
        for split, gap in scores.primary.items()
    ]


def points(fraction: float) -> str:
    """A signed fraction in percentage points."""
    return f"{100 * fraction:+.1f}"
