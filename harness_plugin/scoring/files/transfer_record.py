"""transfer_*.json: what this project is about, all roles of a task side by side.

The layout is the pydantic model below; docs/transfer.schema.json holds its JSON schema, as
`python -m harness_plugin.scoring.files.transfer_record` prints it; a test compares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness_plugin._version import __version__
from harness_plugin.data.task import Source
from harness_plugin.errors import HarnessError
from harness_plugin.records import Estimate, IntervalOf, RunReport, TaskScores, VarianceComponents
from harness_plugin.scoring.files.prediction_tables import EvaluationSet, set_of
from harness_plugin.scoring.verdict import verdicts
from harness_plugin.store.files import read_json, strict


class Strict(BaseModel):
    """No other keys."""

    model_config = ConfigDict(extra="forbid")


class Number(Strict):
    """A number with its uncertainty; fractions in [0, 1], differences in [-1, 1]."""

    value: float | None = Field(description="mean over seeds; null = undefined, see reason")
    low: float | None = Field(description="95% interval (docs/verdicts.md); null: see reason")
    high: float | None
    sd: float | None = Field(description="standard deviation over seeds, ddof 1")
    seeds: list[float | None] = Field(description="the value of each seed")
    n: int = Field(description="examples counted")
    reason: str = Field(description="why the value or its interval is null; empty otherwise")
    interval_of: IntervalOf = Field(description="rows: one seed, nothing is said of others")
    plain: list[float] = Field(description="of a minimum over groups: each seed uncorrected")
    design_effect: float | None = Field(description="variance of clustered rows over independent")


class Supervision(Strict):
    """Which labels besides the task's own a model was trained and chosen with."""

    train_groups: bool = Field(description="group or attribute labels of the training rows")
    validation_groups: bool = Field(description="group labels of the validation rows")
    group_inference: str | None = Field(description="how training groups were found, if they were")
    bias_model: str | None = Field(description="the bias-only model that the method leaned on")
    select: str = Field(
        description="none (the last epoch), average, worst_group or worst_environment on validation"
    )


class Selected(Strict):
    """Which epoch's weights were kept, and what every epoch scored."""

    criterion: str
    split: str
    update: int
    score: float
    history: list[tuple[int, float]]


class Model(Strict):
    """One trained or given model."""

    role: str
    kind: str = Field(description="what the role is: teacher, student, control, erm_teacher …")
    start: str = Field(description="the teacher's layers that it started from; empty for its own")
    seed: int
    name: str
    path: str = Field(description="its checkpoint, as save_pretrained writes it")
    method: str
    model: str
    updates: int
    seconds: float
    supervision: Supervision | None = Field(description="null for a model that was given")
    selection: Selected | None = Field(description="null without a model selection")
    settings: dict[str, Any]


class Scores(Strict):
    """One role on one evaluation set."""

    role: str
    split: str
    metrics: dict[str, Number]
    groups: dict[str, Number] = Field(description="accuracy by group")
    breakdowns: dict[str, dict[str, dict[str, Number]]] = Field(
        description="bias type -> value -> metric"
    )
    distinct_seeds: int = Field(
        description="different models: those that answer every set alike are one training"
    )


class Measure(Strict):
    """student - teacher (distillability, gap_widening), |student| - |teacher| (gap_size_change),
    student - control of the same start (contribution), or the part of the teacher's gain over ERM
    that the student has over its own (retention)."""

    student: str
    split: str
    subset: str = Field(description='"" or "breakdown=value"')
    metric: str
    measure: Literal[
        "distillability", "contribution", "gap_widening", "gap_size_change", "retention"
    ]
    number: Number


class Components(Strict):
    """A mean over seeds and the variances of its interval, with which any bound is computed."""

    value: float | None
    rows: float | None = Field(description="variance of the mean over rows, given these seeds")
    own: float | None = Field(description="the part of it that seeds do not share")
    seeds: float | None = Field(description="variance of the mean over seeds; null for one seed")
    n_seeds: int
    df: float = Field(description="degrees of freedom of the rows' part")


class Evidence(Strict):
    """The numbers behind a verdict: signed gaps, and worst-group accuracy."""

    student_gap: Components
    teacher_gap: Components
    change: Components = Field(description="student - teacher")
    total: Components = Field(description="student + teacher")
    drop: Components | None = Field(description="worst-group accuracy, teacher - student")
    reference_gap: Components | None = Field(description="gap of the ERM teacher")
    reference_change: Components | None = Field(description="teacher - ERM teacher")
    reference_total: Components | None = Field(description="teacher + ERM teacher")
    reference_drop: Components | None = Field(description="worst group, teacher - ERM teacher")
    reason: str = Field(description="why no verdict can be given; empty otherwise")
    distinct_seeds: int = Field(description="of the student: equal answers are one training")
    noisiest: str = Field(description="the group whose rows add most to the change's variance")
    noisiest_rows: int
    one_class: dict[str, str] = Field(description="role -> what it answers to nearly all rows")


class Flips(Strict):
    """Answers of a student that differ from another role's; shares of rows, means over seeds."""

    student: str
    split: str
    other: str = Field(description="teacher, or the control that starts as the student does")
    subset: str = Field(description='"", "group=NAME", "BREAKDOWN=VALUE" or "margin=0-10%"')
    n: int
    changed: float
    lost: float = Field(description="right to wrong")
    repaired: float = Field(description="wrong to right")
    other_wrong: float = Field(description="wrong to another wrong label")
    modal: float = Field(description="the most frequent answer over seeds differs")
    expected: float | None = Field(description="changed between two seeds of one role")
    p: float = Field(description="McNemar, lost against repaired, Holm over parts and seeds")


class Rule(Strict):
    """The thresholds of verdicts."""

    margin: float
    min_seeds: int
    min_group: int


class Verdict(Strict):
    """Is the debiasing kept? Given on the set's primary gap and its worst group."""

    student: str
    split: str
    gap: str
    state: Literal["kept", "lost", "nothing_to_keep", "undecided"]
    sentence: str
    notes: list[Literal["reversed", "no_reference", "one_class"]]
    evidence: Evidence


class TransferRecord(Strict):
    """transfer_<task>_<time>.json."""

    schema_version: Literal["1"] = "1"
    harness_plugin_version: str
    task: str
    source: Source = Field(description="where the data came from")
    fingerprint: str = Field(description="hash of all data; compare only equal ones")
    collapse_rule: str
    notes: list[str]
    seeds: list[int]
    sets: list[EvaluationSet] = Field(description="in-domain sets first")
    models: list[Model]
    scores: list[Scores]
    transfer: list[Measure]
    primary: dict[str, str] = Field(description="evaluation set -> its primary gap")
    rule: Rule
    verdicts: list[Verdict]
    flips: list[Flips]
    environment: dict[str, Any]
    config: dict[str, Any]


def read_record(file: Path) -> TransferRecord:
    """A transfer_*.json read back; HarnessError that names the file and what is wrong with it."""
    value = read_json(file)
    try:
        return TransferRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise HarnessError(
            f"{file}: {where}: {first['msg'].lower()}; was it written by another version?"
        ) from None


def record_of(report: RunReport, scores: TaskScores) -> TransferRecord:
    """The record of one task."""
    return TransferRecord.model_validate(
        strict(
            {
                "harness_plugin_version": __version__,
                "task": scores.task,
                "source": scores.source,
                "fingerprint": scores.fingerprint,
                "collapse_rule": scores.collapse_rule,
                "notes": scores.notes,
                "seeds": scores.seeds,
                "sets": [set_of(scores, split).model_dump() for split in scores.purposes],
                "models": [
                    {
                        "role": model.role,
                        "kind": model.kind,
                        "start": model.start,
                        "seed": model.seed,
                        "name": model.name,
                        "path": model.path,
                        "method": model.method,
                        "model": model.model,
                        "updates": model.updates,
                        "seconds": model.seconds,
                        "supervision": model.supervision,
                        "selection": model.selection,
                        "settings": model.settings,
                    }
                    for model in scores.models
                ],
                "scores": [
                    {
                        "role": s.role,
                        "split": s.split,
                        "metrics": numbers(s.metrics),
                        "groups": numbers(s.groups),
                        "breakdowns": {
                            breakdown: {value: numbers(m) for value, m in values.items()}
                            for breakdown, values in s.breakdowns.items()
                        },
                        "distinct_seeds": s.distinct_seeds,
                    }
                    for s in scores.scores
                ],
                "transfer": [
                    {
                        "student": t.student,
                        "split": t.split,
                        "subset": t.subset,
                        "metric": t.metric,
                        "measure": t.measure,
                        "number": number(t.estimate),
                    }
                    for t in scores.transfer
                ],
                "primary": scores.primary,
                "rule": asdict(scores.rule),
                "verdicts": verdicts_of(scores),
                "flips": [asdict(flips) for flips in scores.flips],
                "environment": report.environment,
                "config": report.config,
            }
        )
    )


def verdicts_of(scores: TaskScores) -> list[dict[str, Any]]:
    """Every verdict with what it rests on."""
    evidence = {(e.student, e.split): e for e in scores.evidence}
    return [
        {
            **{name: getattr(v, name) for name in ("student", "split", "gap", "state")},
            "sentence": v.sentence,
            "notes": v.notes,
            "evidence": {
                name: asdict(value) if isinstance(value, VarianceComponents) else value
                for name in Evidence.model_fields
                for value in [getattr(evidence[v.student, v.split], name)]
            },
        }
        for v in verdicts(scores)
    ]


def numbers(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    """`number` of each."""
    return {name: number(estimate) for name, estimate in estimates.items()}


def number(estimate: Estimate) -> dict[str, Any]:
    """An estimate as the schema has it; a nan without a reason is a defect and raises."""
    if math.isnan(estimate.value) and not estimate.reason:
        raise ValueError("an undefined number has no reason")
    return {name: getattr(estimate, name) for name in Number.model_fields}


if __name__ == "__main__":
    print(json.dumps(TransferRecord.model_json_schema(), indent=2))
