"""The answer in one sentence a student and set, and the table of numbers below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness_plugin.scoring.files import transfer_record as records
from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin.scoring.verdict import State
from harness_plugin_hooks.render.document import Cell, Column, Number, Table
from harness_plugin_hooks.render.text import MINUS
from harness_plugin_hooks.report.figures.scores import primary_gaps, scores_on


@dataclass(frozen=True)
class Answered:
    """Is the debiasing kept? With the numbers behind it."""

    student: str
    split: str
    state: State
    sentence: str


def answers(record: TransferRecord) -> list[Answered]:
    """One a student and set; first that of the first student on the last set, out of domain."""
    order = {known.name: number for number, known in enumerate(record.sets)}
    ranked = sorted(record.verdicts, key=lambda v: (v.student, -order.get(v.split, 0)))
    return [
        Answered(v.student, v.split, v.state, v.sentence)
        for v in ranked
        if any(model.role == "teacher" for model in record.models)
    ]


def measured(
    record: TransferRecord, student: str, split: str, metric: str, measure: str
) -> records.Number | None:
    """One number of the transfer from teacher to student, on the whole set."""
    key = (student, split, "", metric, measure)
    return next(
        (
            t.number
            for t in record.transfer
            if (t.student, t.split, t.subset, t.metric, t.measure) == key
        ),
        None,
    )


def numbers(record: TransferRecord) -> Table:
    """The table of the main numbers: a row a set and role, the first answer's set on top."""
    titles = (
        "set",
        "role",
        "accuracy",
        "worst group",
        "gap",
        f"worst group {MINUS} teacher",
        f"worst group {MINUS} control",
        "change of gap size",
        "retention",
    )
    rows = list(number_rows(record))
    used = [i for i in range(len(titles)) if i < 5 or any(row[i] is not None for row in rows)]
    return Table(
        f"Scores of {record.task}",
        tuple(Column(titles[i]) for i in used),
        [tuple(row[i] for i in used) for row in rows],
        titled=False,
    )


def number_rows(record: TransferRecord) -> Iterator[Sequence[Cell]]:
    """The cells; None where a number does not belong to a role."""
    primary = primary_gaps(record)
    for known in reversed(record.sets):
        gap = primary.get(known.name, "")
        for role, scores in scores_on(record, known.name).items():
            metric = "worst_group_acc" if "worst_group_acc" in scores.metrics else "acc"
            pairs = (
                (metric, "distillability"),
                (metric, "contribution"),
                (gap, "gap_size_change"),
                (metric, "retention"),
            )
            transfer = (measured(record, role, known.name, *pair) for pair in pairs)
            yield (
                known.name,
                role,
                Number.of(scores.metrics.get("acc")),
                Number.of(scores.metrics.get("worst_group_acc")),
                Number.of(scores.metrics.get(gap), signed=True),
                *(
                    None if number is None else Number.of(number, measure != "retention")
                    for number, (_, measure) in zip(transfer, pairs, strict=True)
                ),
            )
