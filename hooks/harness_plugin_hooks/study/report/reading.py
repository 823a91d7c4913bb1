"""The numbers of a study as its report needs them: sets, gaps, factors, one row per response."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from harness_plugin.errors import HarnessError
from harness_plugin.scoring.pairing import erm_twin_of

ROWS = ("common", "rows_df")
"""Columns of the variance that the rows common to all seeds add, and its degrees of freedom."""
NEEDED = (
    "configuration",
    "seed",
    "task",
    "split",
    "purpose",
    "primary_gap",
    "subset",
    "role",
    "metric",
    "measure",
    "value",
    "reason",
    "n",
)
JUDGED = ("verdict", "margin", "min_seeds")
"""Columns of the verdict and of what it was given by; its `notes` may be left out."""
FACTOR = "factor_"
ROLE = "role"
"""A study whose cells have several students has one factor more: which of them."""


@dataclass(frozen=True)
class Response:
    """The number that effects are effects on; `metric` "" stands for the set's primary gap."""

    name: str
    measure: str
    metric: str
    higher_is_better: bool
    about: str

    @property
    def difference(self) -> bool:
        """Whether the response itself is a difference of two models, in points."""
        return self.measure in ("gap_widening", "contribution")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest value there can be: a score is a fraction."""
        known = {"score": (0.0, 1.0), "contribution": (-1.0, 1.0)}
        return known.get(self.measure, (-math.inf, math.inf))


RESPONSES = (
    Response(
        "gap_widening", "gap_widening", "", False, "gap of the student minus its teacher's, points"
    ),
    Response(
        "retention",
        "retention",
        "worst_group_acc",
        True,
        "share of the teacher's gain over ERM that the student keeps, worst group",
    ),
    Response(
        "contribution",
        "contribution",
        "worst_group_acc",
        True,
        "worst group of the student minus its twin's that had no teacher, points",
    ),
    Response("worst_group_acc", "score", "worst_group_acc", True, "accuracy of the worst group"),
    Response("acc", "score", "acc", True, "accuracy"),
)
BY_NAME = {response.name: response for response in RESPONSES}


@dataclass(frozen=True)
class EvaluationSet:
    """One evaluation set that the study is about, with its primary gap."""

    task: str
    split: str
    gap: str

    @property
    def name(self) -> str:
        """Task and set."""
        return f"{self.task}, {self.split}"


@dataclass(frozen=True)
class Study:
    """A study's numbers, in the order of its plan.

    `planned`: configurations of the plan, finished or not. `levels`: factor -> its levels, the
    reference first. `numbers` and `estimates` hold one row per
    number, as docs/studies.md describes them, of the students, their teachers and twins.
    """

    name: str
    summary: str
    planned: int
    seeds: tuple[int, ...]
    levels: Mapping[str, tuple[str, ...]]
    sets: tuple[EvaluationSet, ...]
    students: tuple[str, ...]
    numbers: pd.DataFrame
    estimates: pd.DataFrame

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors with at least two levels, the student's role among them."""
        several = [name for name, levels in self.levels.items() if len(levels) > 1]
        return (*several, *((ROLE,) if len(self.students) > 1 else ()))

    def levels_of(self, factor: str) -> tuple[str, ...]:
        """The levels of a factor, the reference first."""
        return self.students if factor == ROLE else self.levels[factor]

    @property
    def rules(self) -> tuple[tuple[float, int], ...]:
        """Margin and least seeds of its verdicts: one for all, unless the plan has them vary."""
        own = self.estimates[self.estimates.verdict != ""][["margin", "min_seeds"]]
        return tuple((float(m), int(n)) for m, n in own.drop_duplicates().itertuples(index=False))

    def column(self, factor: str) -> str:
        """Where a factor's level stands."""
        return factor if factor == ROLE else FACTOR + factor

    def others(self, *factors: str) -> list[str]:
        """The columns that say what else a configuration is."""
        columns = [self.column(name) for name in (*self.levels, ROLE) if name not in factors]
        return [*columns, "split"]

    def answers(self, response: Response, where: EvaluationSet) -> pd.DataFrame:
        """The students' rows of one response on the whole of one set."""
        key = where.task, where.split, response.measure, response.metric or where.gap
        return self.whole.get(key, self.numbers.head(0))

    @cached_property
    def whole(self) -> Mapping[tuple[str, ...], pd.DataFrame]:
        """The students' rows on whole sets, by task, set, measure and metric."""
        rows = self.numbers
        rows = rows[(rows.subset == "") & rows.role.isin(self.students)]
        keys = ["task", "split", "measure", "metric"]
        return {tuple(map(str, key)): part for key, part in rows.groupby(keys, sort=False)}


def read(
    name: str,
    summary: str,
    planned: int,
    levels: Mapping[str, Sequence[str]],
    numbers: pd.DataFrame,
    estimates: pd.DataFrame,
) -> Study:
    """The study behind its tables.

    `levels` gives the plan's order; a factor or level that it does not name comes after. Raises
    HarnessError for tables that lack a column, have no row of a student or a number twice.
    """
    needed = {
        "numbers": {*NEEDED, *ROWS},
        "estimates": {*NEEDED, "low", "high", *JUDGED} - {"seed"},
    }
    for table, columns in ((numbers, needed["numbers"]), (estimates, needed["estimates"])):
        if lacking := sorted(columns - set(map(str, table.columns))):
            raise HarnessError(f"study {name}: the table of numbers lacks {', '.join(lacking)}.")
    estimates = estimates.assign(notes=estimates.get("notes", ""))
    numbers, estimates = (prepared(table) for table in (numbers, estimates))
    key = ["configuration", "seed", "task", "split", "subset", "role", "metric", "measure"]
    if (twice := numbers.duplicated(key)).any():
        row = numbers[twice].iloc[0]
        raise HarnessError(
            f"study {name}: {row.metric} ({row.measure}) of configuration {row.configuration}, "
            f"seed {row.seed}, {row.role} on {row.split} is there twice."
        )
    students = tuple(sorted(r for r in numbers.role.unique() if r.startswith("student")))
    if not students:
        raise HarnessError(f"study {name}: no student was scored, there is nothing to report.")
    factors = [c for c in numbers.columns if c.startswith(FACTOR)]
    present = {c.removeprefix(FACTOR): numbers[c].unique().tolist() for c in factors}
    return Study(
        name=name,
        summary=summary,
        planned=planned,
        seeds=tuple(sorted(int(seed) for seed in numbers.seed.unique())),
        levels={
            factor: in_order(present[factor], levels.get(factor, ()))
            for factor in in_order(list(present), ("task", *levels))
        },
        sets=tuple(sets_of(numbers)),
        students=students,
        numbers=pd.concat([numbers, retained(numbers, estimates, students)], ignore_index=True),
        estimates=estimates,
    )


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Texts for what is absent, numbers as floats."""
    table = table.assign(start=table.get("start", ""))
    texts = [*(c for c in table.columns if c.startswith(FACTOR)), "subset", "reason", "start"]
    texts += [name for name in ("verdict", "notes") if name in table]
    values: dict[str, Any] = {name: table[name].fillna("").astype(str) for name in texts}
    for name in ("value", "low", "high", *ROWS):
        if name in table:
            values[name] = pd.to_numeric(table[name])
    return table.assign(**values)


def in_order(present: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """`present` in the order of `order`, what it does not name last."""
    place = {str(name): number for number, name in reversed(list(enumerate(order)))}
    return tuple(sorted(present, key=lambda name: place.get(name, len(place))))


def sets_of(numbers: pd.DataFrame) -> list[EvaluationSet]:
    """Every out-of-distribution set, of a task without one every set, with its primary gap."""
    out = []
    for task, of_task in numbers.groupby("task", sort=False):
        ood = of_task[of_task.purpose == "ood"]
        for split, rows in (ood if len(ood) else of_task).groupby("split", sort=False):
            out.append(EvaluationSet(str(task), str(split), str(rows.primary_gap.iloc[0] or "")))
    return out


def retained(
    numbers: pd.DataFrame, estimates: pd.DataFrame, students: Sequence[str]
) -> pd.DataFrame:
    """Rows of retention by seed, which the tables have over seeds only: it is a ratio of means.

    With g the student's gain over the ERM student of its start in a seed, p the teacher's, and R =
    mean g / mean p,
    a seed stands for R + (g - R p) / mean p: their mean is R and their deviation that of the ratio
    (its linearisation). Undefined where R is, for the same reason. What rows add to it is not
    known.
    """
    metric = "worst_group_acc"
    scores = numbers[
        (numbers.metric == metric) & (numbers.measure == "score") & (numbers.subset == "")
    ]
    over_seeds = estimates[
        (estimates.metric == metric) & (estimates.measure == "retention") & (estimates.subset == "")
    ]
    keys = ["configuration", "split"]
    by_role = over_seeds.set_index([*keys, "role"])
    out = []
    for key, part in scores.groupby(keys, sort=False):
        starts = dict(zip(part.role, part.start, strict=True))
        values = part.pivot(index="seed", columns="role", values="value")
        for role in (role for role in students if role in values and (*key, role) in by_role.index):
            known = by_role.loc[(*key, role)]
            ratios = pd.Series(math.nan, values.index)
            if not math.isnan(known.value):
                gain = values[role] - values[erm_twin_of(role, starts, values)]
                possible = values["teacher"] - values["erm_teacher"]
                ratio = gain.mean() / possible.mean()
                ratios = ratio + (gain - ratio * possible) / possible.mean()
            rows = part[part.role == role]
            out.append(
                rows.assign(
                    measure="retention",
                    value=rows.seed.map(ratios),
                    common=math.nan,
                    rows_df=math.nan,
                    reason="" if ratios.notna().all() else known.reason,
                )
            )
    return pd.concat(out) if out else numbers.head(0)
