"""Which remedy is certified: tests in an order that was fixed before, with one error for all.

After Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052, sections 2 and 2.2): a candidate
is accepted where its p-value is below its share of the error, here where its bounds of that error
hold. Their fixed sequence goes on only while it accepts; a search for the first that holds goes on
after a failure and must pay for it. So the error is shared out beforehand, halved from candidate to
candidate, and the chance of any false certificate is at most their sum.

Bounds are those of the one rule (`intervals`): rows and seeds, where binomial bounds know
no seeds. Several claims of one candidate need no correction, as all of them must hold
(intersection-union, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness_plugin.records import VarianceComponents
from harness_plugin.scoring.statistics.intervals import at_seeds, half_width
from harness_plugin_hooks.render.text import percent

MOST_SEEDS = 20
MORE_ROWS = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""Seeds and multiples of the rows searched for what would certify."""


@dataclass(frozen=True)
class Candidate:
    """A remedy on the rows that certify.

    `value`: share of the teacher's gain that it keeps on the rows that rank, in [0, 1]; `cost`: its
    training against the plain student's. `kept`: (student - its reference by ERM) - level *
    (teacher - ERM teacher), `gain`: teacher - ERM teacher, `fall`: teacher - student, all of
    worst-group accuracy. `reason`: why there are no bounds.
    """

    remedy: str
    value: float
    cost: float
    kept: VarianceComponents
    gain: VarianceComponents
    fall: VarianceComponents
    reason: str = ""

    @property
    def promise(self) -> float:
        """Expected value per cost; infinite for what costs nothing and keeps something."""
        if self.cost > 0:
            return self.value / self.cost
        return math.inf if self.value > 0 else 0.0

    def holds(self, share: float, margin: float, seeds: int = 0, rows: float = 1.0) -> bool:
        """Whether all claims are shown at an error `share`, at other numbers of seeds and rows."""
        low_kept, low_gain, high_fall = self.bounds(share, seeds, rows)
        return not self.reason and low_kept >= 0 and low_gain > 0 and high_fall <= margin

    def bounds(self, share: float, seeds: int = 0, rows: float = 1.0) -> tuple[float, float, float]:
        """Lower bounds of `kept` and `gain`, upper bound of `fall`, of one-sided error `share`."""

        def moved(c: VarianceComponents, sign: int) -> float:
            c = at_seeds(c, seeds, rows) if seeds else c
            return float(c.value) + sign * float(half_width(c, share))

        return moved(self.kept, -1), moved(self.gain, -1), moved(self.fall, 1)


@dataclass(frozen=True)
class Step:
    """One candidate tested: its share of the error, its bounds, and whether all claims hold."""

    remedy: str
    value: float
    cost: float
    share: float
    kept_low: float
    gain_low: float
    fall_high: float
    certified: bool
    reason: str = ""


def in_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By expected value per cost, the highest first; where it is equal by value, then by name."""
    return sorted(candidates, key=lambda each: (-each.promise, -each.value, each.remedy))


def shares(delta: float, candidates: int) -> list[float]:
    """The error of each candidate: half of what is left, the last one all of it."""
    halves = [delta / 2 ** (k + 1) for k in range(candidates - 1)]
    return [*halves, delta - sum(halves)]


def steps_of(ordered: Sequence[Candidate], delta: float, margin: float) -> Iterator[Step]:
    """Candidates in their order up to the first that is certified."""
    for each, share in zip(ordered, shares(delta, len(ordered)), strict=True):
        certified = each.holds(share, margin)
        kept, gain, fall = each.bounds(share)
        yield Step(
            each.remedy, each.value, each.cost, share, kept, gain, fall, certified, each.reason
        )
        if certified:
            return


def would_certify(each: Candidate, share: float, margin: float) -> str:
    """What is not shown of a candidate, and seeds or rows that would do if values and spreads stay.

    A value on the wrong side of its limit is no matter of seeds or rows, but of the student: that
    is said, and whether the teacher's gain is shown, which it is measured by.
    """
    if each.reason:
        return each.reason
    gain, kept, fall = (float(c.value) for c in (each.gain, each.kept, each.fall))
    if gain <= 0:
        return (
            f"the teacher gains nothing over ERM on these rows ({percent(gain, True)} points), so "
            "that there is nothing to retain"
        )
    lacking = "; ".join(not_shown(each, share, margin))
    if kept >= 0 and fall <= margin:
        needed = enough(each, lambda seeds, rows: each.holds(share, margin, seeds, rows))
        return f"{lacking}; {needed} would certify it"
    final = f"{lacking}; as these values stand no number of seeds or rows would certify it"
    if each.bounds(share)[1] > 0:
        return final
    needed = enough(each, lambda seeds, rows: each.bounds(share, seeds, rows)[1] > 0)
    return f"{final}, {needed} would show the teacher's gain"


def not_shown(each: Candidate, share: float, margin: float) -> Iterator[str]:
    """The claims of a candidate that do not hold, each with what was measured, in points."""
    low_kept, low_gain, high_fall = each.bounds(share)
    gain, kept, fall = (float(c.value) for c in (each.gain, each.kept, each.fall))
    if low_gain <= 0:
        yield (
            f"the teacher's own gain over ERM, {percent(gain, False)} points, is not shown (lower "
            f"bound {percent(low_gain, True)})"
        )
    if kept < 0 or low_kept < 0:
        does, less = ("keeps", kept) if kept < 0 else ("may keep", low_kept)
        yield (
            f"it {does} {told_from(-less, 0.0)} points less of the teacher's gain than is to be "
            "certified"
        )
    if fall > margin or high_fall > margin:
        lies, below = ("is", fall) if fall > margin else ("may be", high_fall)
        yield (
            f"its worst group {lies} {told_from(below, margin)} points below the teacher's, "
            f"{100 * margin:g} are allowed"
        )


def told_from(value: float, limit: float) -> str:
    """A share in points, with as many decimals as tell it from the limit: one, mostly."""
    shown = (f"{100 * value:.{decimals}f}" for decimals in range(1, 12))
    return next((text for text in shown if float(text) != 100 * limit), f"{100 * value:g}")


def enough(each: Candidate, holds: Callable[[int, float], bool]) -> str:
    """Seeds alone or rows alone that would do, or both together, or that not even these would."""
    present, most = each.kept.n_seeds, max(MOST_SEEDS, each.kept.n_seeds)
    seeds = next((n for n in range(present + 1, most + 1) if holds(n, 1.0)), 0)
    rows = next((times for times in MORE_ROWS if holds(present, times)), 0.0)
    ways = [f"about {seeds} seeds"] * bool(seeds) + [f"{rows:g} times the rows"] * bool(rows)
    if not ways:
        both = next((times for times in MORE_ROWS if holds(most, times)), 0.0)
        ways = [f"{most} seeds with {both:g} times the rows"] * bool(both)
    return " or ".join(ways) or f"not even {most} seeds with {MORE_ROWS[-1]:g} times the rows"
