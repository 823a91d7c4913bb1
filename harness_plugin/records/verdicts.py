"""Verdicts, their evidence and rule, and further results on a student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness_plugin.records.estimates import VarianceComponents


@dataclass(frozen=True)
class Evidence:
    """The numbers behind a verdict on one student and evaluation set (scoring.verdict).

    `*_gap`: signed primary gaps; `change` and `total` are student minus and plus teacher, and
    `reference_*` the same of the teacher and its ERM reference. `drop`: worst-group accuracy of the
    teacher minus the student's; `reference_drop`: the teacher's minus the reference's. None where
    there is no such number.
    """

    student: str
    split: str
    gap: str
    student_gap: VarianceComponents
    teacher_gap: VarianceComponents
    change: VarianceComponents
    total: VarianceComponents
    drop: VarianceComponents | None = None
    reference_gap: VarianceComponents | None = None
    reference_change: VarianceComponents | None = None
    reference_total: VarianceComponents | None = None
    reference_drop: VarianceComponents | None = None
    reason: str = ""
    """Why no verdict can be given, whatever the seeds."""
    distinct_seeds: int = 0
    """Seeds of the student whose answers differ: equal ones are one training."""
    noisiest: str = ""
    """The group whose rows add most to the rows' variance of `change`."""
    noisiest_rows: int = 0
    one_class: Mapping[str, str] = field(default_factory=dict)
    """Role -> what is said of a model that answers (nearly) one label only."""


@dataclass(frozen=True)
class VerdictRule:
    """The rule of verdicts.

    `margin`: how much worse is not called lost, a fraction. `min_seeds`: fewer give no verdict.
    `min_group`: rows below which a group steers no minimum over groups.
    """

    margin: float = 0.02
    min_seeds: int = 3
    min_group: int = 30


DEFAULT_RULE = VerdictRule()


@dataclass(frozen=True)
class SetPlan:
    """Power of a number of seeds on one evaluation set; fractions.

    `smallest_loss`: the smallest true widening of the gap that would be called lost with
    probability `power`, with the planned seeds; `ever` with 20 seeds. `seeds_for_effect`,
    `seeds_for_kept`: seeds at which a loss of `effect`, or no change at all, gets its verdict; None
    where not even 20 do, then `rows_for_kept` says how many times the rows would, with 20.
    """

    split: str
    gap: str
    smallest_cell: int
    cell: str
    clusters: int | None
    smallest_loss: float
    ever: float
    seeds_for_effect: int | None
    seeds_for_kept: int | None
    rows_for_kept: float | None
    reason: str = ""
    short: str = ""
    """The power of the planned seeds, in a few words."""


@dataclass(frozen=True)
class Flips:
    """Answers of a student that differ from another role's, on a set or a part of it.

    All are shares of the `n` rows, means over seeds. `changed` is the sum of `lost` (right to
    wrong), `repaired` (wrong to right) and `other_wrong` (wrong to another wrong label). `modal`:
    rows whose most frequent answer over seeds differs. `expected`: rows on which two seeds of one
    role differ, mean over both roles, None for one seed. `p`: exact McNemar test of lost against
    repaired, smallest over seeds, adjusted by Holm. `subset`: "", "group=NAME", "BREAKDOWN=VALUE",
    or "margin=0-10%", the tenth of the rows that the other role is least sure of.
    """

    student: str
    split: str
    other: str
    subset: str
    n: int
    changed: float
    lost: float
    repaired: float
    other_wrong: float
    modal: float
    expected: float | None
    p: float
