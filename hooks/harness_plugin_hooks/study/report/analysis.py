"""A study's numbers → every effect, mean and rank: one record per number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import pandas as pd

from harness_plugin.records import DEFAULT_RULE
from harness_plugin.scoring.statistics.significance import holm
from harness_plugin_hooks.leaderboard.board import Rank, rank_ranges
from harness_plugin_hooks.study.report.effects import (
    Average,
    Table,
    average,
    comparable,
    contrast,
    first_too_few,
    levels_of,
    mean_of_sets,
    pooled,
    table_of,
)
from harness_plugin_hooks.study.report.reading import (
    FACTOR,
    RESPONSES,
    ROLE,
    EvaluationSet,
    Response,
    Study,
)

SIZES = ("teacher", "student")
"""The factors that a scale map is drawn from."""

SPLIT_BY = ("method", "remedy")
"""Bias types are shown for each level of the first of these that the study has."""


@dataclass(frozen=True)
class StudyEstimate:
    """One number of the report.

    `kind`: "effect" (a level against its reference), "mean" (of a level), "scale" (of a teacher's
    and a student's size) or "bias_type" (of a subset). `task` and `split` are "" for the mean over
    all sets, `role` is the student's.
    """

    kind: str
    response: str
    metric: str
    average: Average
    task: str = ""
    split: str = ""
    role: str = ""
    factor: str = ""
    level: str = ""
    reference: str = ""
    teacher: str = ""
    student: str = ""
    subset: str = ""
    n: int = 0
    p_holm: float = math.nan
    rank: Rank | None = field(default=None)
    matched: bool = True
    """False for means of levels that were not trained in the same configurations."""

    def row(self, study: str) -> dict[str, object]:
        """As a row of the Parquet table; nan becomes null there."""
        known = {k: v for k, v in asdict(self).items() if k not in ("average", "rank")}
        numbers = asdict(self.average)
        by_seed = numbers.pop("by_seed")
        first, last = self.rank or (None, None)
        return {
            "study": study,
            **known,
            **numbers,
            "by_seed": [value for _, value in by_seed],
            "rank_first": first,
            "rank_last": last,
        }


def analyse(study: Study) -> list[StudyEstimate]:
    """Every number of the report, in the order of the page."""
    estimates: list[StudyEstimate] = []
    for factor in study.factors:
        for role in ("",) if factor == ROLE else study.students:
            for response in RESPONSES:
                estimates += means(study, factor, role, response)
                estimates += effects(study, factor, role, response)
    if all(size in study.factors for size in SIZES):
        estimates += scale(study)
    return [*estimates, *bias_types(study)]


def rows_of(
    study: Study, response: Response, where: Sequence[EvaluationSet], role: str
) -> pd.DataFrame:
    """The answers of one student, or all, on some sets."""
    rows = pd.concat([study.answers(response, one) for one in where])
    return rows[rows.role == role] if role else rows


def places(study: Study, factor: str) -> list[tuple[str, str, list[EvaluationSet]]]:
    """Task, split and sets that a factor is estimated on; a task's effect is one of all."""
    if factor == "task":
        return [("", "", list(study.sets))]
    return [(one.task, one.split, [one]) for one in study.sets]


def by_level(
    study: Study, factor: str, role: str, response: Response, where: Sequence[EvaluationSet]
) -> dict[str, Table]:
    """Level -> its numbers, in the order of the plan."""
    rows = rows_of(study, response, where, role)
    others = study.others(factor)
    if factor == "task":  # a task's sets are its own: their mean stands for it
        others.remove("split")
        keys = [*others, FACTOR + "task", "seed"]
        rows = rows.groupby(keys, sort=False, as_index=False).agg(
            value=("value", "mean"),
            common=("common", mean_of_sets),
            rows_df=("rows_df", "min"),
            reason=("reason", first_too_few),
        )
    tables = levels_of(rows, study.column(factor), others)
    return {level: tables[level] for level in study.levels_of(factor) if level in tables}


def means(study: Study, factor: str, role: str, response: Response) -> Iterator[StudyEstimate]:
    """The mean of each level, with the ranks that their intervals allow."""
    for task, split, where in places(study, factor):
        tables, matched = comparable(by_level(study, factor, role, response, where))
        averages = {
            level: average(table).within(*response.bounds) for level, table in tables.items()
        }
        ranked = [
            level
            for level, mean in averages.items()
            if mean.seeds >= DEFAULT_RULE.min_seeds and not math.isnan(mean.low)
        ]
        sign = 1 if response.higher_is_better else -1
        ends = [
            sorted((sign * averages[level].low, sign * averages[level].high)) for level in ranked
        ]
        ranks = dict(zip(ranked, rank_ranges([(low, high) for low, high in ends]), strict=True))
        for level, mean in averages.items():
            yield StudyEstimate(
                "mean",
                response.name,
                metric_of(response, where),
                mean,
                task,
                split,
                role,
                factor,
                str(level),
                rank=ranks.get(level) if len(ranked) > 1 else None,
                matched=matched,
            )


def effects(study: Study, factor: str, role: str, response: Response) -> Iterator[StudyEstimate]:
    """Each level against the reference, on every set and over all of them.

    p-values are adjusted for the levels that are compared with one reference (Holm 1979).
    """
    reference, *levels = study.levels_of(factor)
    family: list[StudyEstimate] = []
    by_set: dict[str, list[Average]] = {level: [] for level in levels}
    for task, split, where in places(study, factor):
        tables = by_level(study, factor, role, response, where)
        here = []
        for level in levels:
            if level not in tables:
                continue
            if reference not in tables:
                effect = Average(reason=f"reference {reference} was not trained here")
            else:
                effect = contrast(tables[level], tables[reference])
            by_set[level].append(effect)
            here.append(
                StudyEstimate(
                    "effect",
                    response.name,
                    metric_of(response, where),
                    effect,
                    task,
                    split,
                    role,
                    factor,
                    level,
                    reference,
                )
            )
        family += adjusted(here)
    yield from family
    if factor == "task" or len(study.sets) < 2:
        return
    over_all = []
    for level, parts in by_set.items():
        defined = [part for part in parts if part.by_seed]
        if len(defined) == len(study.sets):
            metric = metric_of(response, study.sets)
            effect = pooled(defined)
            over_all.append(
                StudyEstimate(
                    "effect", response.name, metric, effect, "", "", role, factor, level, reference
                )
            )
    yield from adjusted(over_all)


def adjusted(estimates: list[StudyEstimate]) -> list[StudyEstimate]:
    """The same with p-values for all of them together."""
    known = [one for one in estimates if not math.isnan(one.average.p)]
    values = iter(holm([one.average.p for one in known])) if known else iter(())
    return [
        one if math.isnan(one.average.p) else replace(one, p_holm=float(next(values)))
        for one in estimates
    ]


def metric_of(response: Response, where: Sequence[EvaluationSet]) -> str:
    """The metric's name, "" where sets have different gaps."""
    if response.metric:
        return response.metric
    gaps = {one.gap for one in where}
    return gaps.pop() if len(gaps) == 1 else ""


def scale(study: Study) -> Iterator[StudyEstimate]:
    """Every response for each size of teacher and of student."""
    teacher, student = (FACTOR + size for size in SIZES)
    others = study.others(*SIZES)
    for where in study.sets:
        for role in study.students:
            for response in RESPONSES:
                rows = rows_of(study, response, [where], role)
                for large in study.levels["teacher"]:
                    for small in study.levels["student"]:
                        cell = rows[(rows[teacher] == large) & (rows[student] == small)]
                        if cell.empty:
                            continue
                        yield StudyEstimate(
                            "scale",
                            response.name,
                            metric_of(response, [where]),
                            average(table_of(cell, others)),
                            where.task,
                            where.split,
                            role,
                            teacher=large,
                            student=small,
                        )


def split_by(study: Study) -> str:
    """The factor whose levels are told apart by bias type, "" for none."""
    return next((name for name in SPLIT_BY if name in study.factors), "")


def bias_types(study: Study) -> Iterator[StudyEstimate]:
    """How accuracy and gap change from teacher to student within every subset of each set."""
    factor = split_by(study)
    levels = study.levels_of(factor) if factor else ("",)
    numbers = study.numbers[
        study.numbers.role.isin(study.students)
        & study.numbers.measure.isin(("distillability", "gap_widening"))
    ]
    for where in study.sets:
        on_set = numbers[(numbers.task == where.task) & (numbers.split == where.split)]
        on_set = on_set[on_set.metric.isin(("acc", where.gap))]
        for role in study.students:
            of_role = on_set[on_set.role == role]
            for level in levels:
                rows = of_role[of_role[FACTOR + factor] == level] if factor else of_role
                keys = ["subset", "measure", "metric"]
                for (subset, measure, metric), part in rows.groupby(keys, sort=False):
                    mean = average(table_of(part, study.others()))
                    yield StudyEstimate(
                        "bias_type",
                        str(measure),
                        str(metric),
                        mean,
                        where.task,
                        where.split,
                        role,
                        factor,
                        str(level),
                        subset=str(subset),
                        n=int(part.n.iloc[0]),
                    )
