"""A finished run: its scores read back, and the two sides of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import (
    Estimate,
    Evidence,
    Flips,
    MetricInfo,
    ModelScores,
    Predictions,
    TaskScores,
    TrainedModel,
    Transfer,
    VarianceComponents,
    VerdictRule,
)
from harness_plugin.records.run_folder import run_folder
from harness_plugin.scoring.comparison import Evaluated, numbers
from harness_plugin.scoring.files.prediction_tables import (
    EvaluationSet,
    file_name,
    from_csv,
    rows_sha256,
)
from harness_plugin.scoring.files.transfer_record import Components as ComponentsModel
from harness_plugin.scoring.files.transfer_record import Number, TransferRecord, read_record
from harness_plugin.scoring.files.transfer_record import Verdict as VerdictModel
from harness_plugin.scoring.gate import Comparison, Thresholds, compare
from harness_plugin.scoring.metrics import Metric
from harness_plugin.scoring.pairing import by_id


@dataclass(frozen=True)
class Selected:
    """Which models of two results are compared; empty `tasks` and `seeds` mean all.

    A result is a folder, one transfer_*.json in it, or the scores of a run that was just made.
    """

    baseline: Path | tuple[TaskScores, ...]
    candidate: Path | tuple[TaskScores, ...]
    role: str = "student"
    baseline_role: str | None = None
    """The baseline's role, where it is another one."""
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def compare_outputs(
    selected: Selected, thresholds: Thresholds, plugins: Plugins
) -> tuple[Comparison, ...]:
    """One comparison a task.

    Raises HarnessError for results that cannot be read or compared, for tasks that only one side
    has, and for gates on tasks that nobody compares.
    """
    known = plugins["metric"].instances(Metric)
    sides = [side_of(selected.baseline), side_of(selected.candidate)]
    tasks = selected.tasks or tuple(sides[1].tasks)
    for side in sides:
        for task in tasks:
            if task not in side.tasks:
                has = f"it has {', '.join(side.tasks)}"
                raise HarnessError(f"{side.where}: has no results of task {task!r}; {has}.")
        if not selected.tasks and (more := [task for task in side.tasks if task not in tasks]):
            raise HarnessError(
                f"{side.where}: has results of task {more[0]!r}, the other side has none; name the "
                f"tasks to compare with --tasks."
            )
    for gate in thresholds.gates:
        if gate.task is not None and gate.task not in tasks:
            raise unknown("task of a gate", gate.task, tasks)
    comparisons = []
    for task in tasks:
        baseline, candidate = (
            side.tasks[task](role=role, seeds=selected.seeds)
            for side, role in zip(
                sides, (selected.baseline_role or selected.role, selected.role), strict=True
            )
        )
        comparisons.append(compare(baseline, candidate, thresholds, known))
    return tuple(comparisons)


@dataclass(frozen=True)
class Side:
    """One result: the models of a role and of some seeds (none = all), task by task."""

    where: str
    tasks: Mapping[str, Callable[..., Evaluated]]


def side_of(result: Path | tuple[TaskScores, ...]) -> Side:
    """A result on the disk, or one that is still in memory."""
    if isinstance(result, Path):
        records = records_in(result).items()
        return Side(str(result), {task: partial(evaluated, *source) for task, source in records})
    return Side("this result", {scores.task: partial(in_memory, scores) for scores in result})


def in_memory(scores: TaskScores, role: str, seeds: Sequence[int] = ()) -> Evaluated:
    """One role's side of a comparison, from scores that hold their predictions.

    Raises HarnessError for a role or seed that they lack, and without predictions.
    """
    roles = list(dict.fromkeys(model.role for model in scores.models))
    check_has(f"the result of {scores.task}", role, seeds, roles, scores.seeds)
    if not scores.predictions:
        raise HarnessError(
            f"the result of {scores.task} has no predictions; models are compared example by "
            f"example, so run with log_samples and keep the file."
        )
    return Evaluated(
        where=f"the result of {scores.task}",
        task=scores.task,
        role=role,
        source=scores.source,
        digests={p.split: rows_sha256(p) for p in first_of_each(scores.predictions)},
        collapse_rule=scores.collapse_rule,
        purposes=scores.purposes,
        primary=scores.primary,
        predictions=tuple(
            by_id(p)
            for p in scores.predictions
            if p.role == role and p.seed in (seeds or scores.seeds)
        ),
    )


def first_of_each(predictions: Sequence[Predictions]) -> list[Predictions]:
    """One of the predictions on each set, rows sorted by id."""
    return [by_id(p) for p in {p.split: p for p in reversed(predictions)}.values()]


def check_has(
    where: object, role: str, seeds: Sequence[int], roles: Sequence[str], known: Sequence[int]
) -> None:
    """Refuse a role or a seed that a result lacks."""
    if role not in roles:
        raise HarnessError(f"{where}: has no role {role!r}; it has {', '.join(roles)}.")
    if lacking := set(seeds) - set(known):
        raise HarnessError(f"{where}: has no seed {min(lacking)}; it has {numbers(known)}.")


def scores_from(
    file: Path, record: TransferRecord, metrics: Mapping[str, MetricInfo]
) -> TaskScores:
    """The scores of one task as its transfer_*.json has them, with predictions if kept beside it.

    `metrics`: those that are installed. The intervals of single seeds are not in the file.
    Raises HarnessError for predictions that are damaged or not those of the record.
    """
    used = {name for scores in record.scores for name in scores.metrics}
    kept = any(prediction_file(file, record, known).is_file() for known in record.sets)
    return TaskScores(
        task=record.task,
        source=record.source,
        fingerprint=record.fingerprint,
        collapse_rule=record.collapse_rule,
        notes=tuple(record.notes),
        seeds=tuple(record.seeds),
        models=tuple(
            TrainedModel(
                task=record.task,
                role=model.role,
                seed=model.seed,
                name=model.name,
                path=Path(model.path),
                model=model.model,
                method=model.method,
                settings=model.settings,
                supervision=None if model.supervision is None else model.supervision.model_dump(),
                selection=None if model.selection is None else model.selection.model_dump(),
                kind=model.kind,
                start=model.start,
                updates=model.updates,
                seconds=model.seconds,
                reused=True,
            )
            for model in record.models
        ),
        scores=tuple(
            ModelScores(
                role=s.role,
                split=s.split,
                metrics=estimates(s.metrics),
                groups=estimates(s.groups),
                breakdowns={
                    breakdown: {value: estimates(group) for value, group in values.items()}
                    for breakdown, values in s.breakdowns.items()
                },
                distinct_seeds=s.distinct_seeds,
            )
            for s in record.scores
        ),
        transfer=tuple(
            Transfer(t.student, t.split, t.subset, t.metric, t.measure, estimate(t.number))
            for t in record.transfer
        ),
        predictions=tuple(p for known in record.sets for p in read_predictions(file, record, known))
        if kept
        else (),
        primary=record.primary,
        purposes={known.name: known.purpose for known in record.sets},
        metrics={name: metrics[name] for name in sorted(used) if name in metrics},
        evidence=tuple(evidence_from(verdict) for verdict in record.verdicts),
        flips=tuple(Flips(**flips.model_dump()) for flips in record.flips),
        rule=VerdictRule(**record.rule.model_dump()),
    )


def evidence_from(verdict: VerdictModel) -> Evidence:
    """The numbers behind a verdict of the file."""
    of = verdict.evidence
    return Evidence(
        student=verdict.student,
        split=verdict.split,
        gap=verdict.gap,
        student_gap=components_from(of.student_gap),
        teacher_gap=components_from(of.teacher_gap),
        change=components_from(of.change),
        total=components_from(of.total),
        drop=optional_components(of.drop),
        reference_gap=optional_components(of.reference_gap),
        reference_change=optional_components(of.reference_change),
        reference_total=optional_components(of.reference_total),
        reference_drop=optional_components(of.reference_drop),
        reason=of.reason,
        distinct_seeds=of.distinct_seeds,
        noisiest=of.noisiest,
        noisiest_rows=of.noisiest_rows,
        one_class=of.one_class,
    )


def optional_components(c: ComponentsModel | None) -> VarianceComponents | None:
    """`components_from`, where the file has any."""
    return None if c is None else components_from(c)


def components_from(c: ComponentsModel) -> VarianceComponents:
    """Variance components of the file: null is nan."""
    numbers = (c.value, c.rows, c.own, c.seeds)
    value, rows, own, seeds = (np.asarray(math.nan if x is None else x) for x in numbers)
    return VarianceComponents(value, rows, own, seeds, c.n_seeds, c.df)


def estimates(numbers: Mapping[str, Number]) -> dict[str, Estimate]:
    """`estimate` of each."""
    return {name: estimate(number) for name, number in numbers.items()}


def estimate(number: Number) -> Estimate:
    """A number of the file: null is nan."""

    def read(value: float | None) -> float:
        return math.nan if value is None else value

    return Estimate(
        value=read(number.value),
        low=read(number.low),
        high=read(number.high),
        sd=read(number.sd),
        seeds=tuple(read(value) for value in number.seeds),
        n=number.n,
        reason=number.reason,
        interval_of=number.interval_of,
        plain=tuple(number.plain),
        design_effect=number.design_effect,
    )


def records_in(path: Path) -> dict[str, tuple[Path, TransferRecord]]:
    """Task -> its transfer_*.json, in a results folder or for one such file.

    Raises HarnessError where there is none, or several of one task.
    """
    files = sorted(run_folder(path).glob("transfer_*.json")) if path.is_dir() else [path]
    records: dict[str, tuple[Path, TransferRecord]] = {}
    for file in files:
        record = read_record(file)
        if other := records.get(record.task):
            raise HarnessError(
                f"{path}: has several results of task {record.task!r}, {other[0].name} and "
                f"{file.name}; name the file to compare."
            )
        records[record.task] = file, record
    return records


def evaluated(
    file: Path, record: TransferRecord, *, role: str, seeds: Sequence[int] = ()
) -> Evaluated:
    """One role's side of a comparison, with its predictions.

    Raises HarnessError for a role or seed that the record lacks, and for predictions that are
    missing, damaged or not those of the record.
    """
    roles = list(dict.fromkeys(model.role for model in record.models))
    check_has(file, role, seeds, roles, record.seeds)
    predictions = tuple(
        p
        for known in record.sets
        for p in read_predictions(file, record, known)
        if p.role == role and p.seed in (seeds or record.seeds)
    )
    return Evaluated(
        where=str(file.parent),
        task=record.task,
        role=role,
        source=record.source,
        digests={known.name: known.rows_sha256 for known in record.sets},
        collapse_rule=record.collapse_rule,
        purposes={known.name: known.purpose for known in record.sets},
        primary=record.primary,
        predictions=predictions,
    )


def read_predictions(
    file: Path, record: TransferRecord, known: EvaluationSet
) -> Iterator[Predictions]:
    """Every model's predictions on one set, from the file beside the record."""
    beside = prediction_file(file, record, known)
    try:
        text = beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HarnessError(
            f"{file}: {beside.name} is not beside it; models are compared example by example, so "
            f"run with --log_samples and keep the file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{beside}: cannot be read: {error}.") from None
    names = {(model.role, model.seed): model.name for model in record.models}
    table = from_csv(text, known, record.task, names, str(beside))
    if rows_sha256(table[0]) != known.rows_sha256:
        raise HarnessError(f"{beside}: its rows are not those that {file.name} was made from.")
    yield from table


def prediction_file(file: Path, record: TransferRecord, known: EvaluationSet) -> Path:
    """Where the predictions on one set lie, if the run kept them."""
    stamp = file.stem.removeprefix(f"transfer_{record.task}_")
    return file.with_name(file_name(record.task, known.name, stamp))
