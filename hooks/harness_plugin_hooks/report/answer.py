"""The answer in one sentence a student and set, and the table of numbers below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness_plugin.scoring.transfer_record import Number, TransferRecord, Verdict
from harness_plugin_hooks.report.figures_scores import primary_gaps, scores_on
from harness_plugin_hooks.report.words import MINUS, of_number, percent, plural, spoken


@dataclass(frozen=True)
class Answered:
    """Is the debiasing kept? With the numbers behind it."""

    student: str
    split: str
    state: Literal["kept", "lost", "undecided"]
    sentence: str


def answers(record: TransferRecord) -> list[Answered]:
    """One a student and set; first that of the first student on the last set, out of domain."""
    order = {known.name: number for number, known in enumerate(record.sets)}
    ranked = sorted(record.verdicts, key=lambda v: (v.student, -order.get(v.split, 0)))
    return [
        Answered(v.student, v.split, v.state, sentence(record, v))
        for v in ranked
        if any(model.role == "teacher" for model in record.models)
    ]


def measured(
    record: TransferRecord, student: str, split: str, metric: str, measure: str
) -> Number | None:
    """One number of the transfer from teacher to student, on the whole set."""
    wanted = (student, split, "", metric, measure)
    return next(
        (
            t.number
            for t in record.transfer
            if (t.student, t.split, t.subset, t.metric, t.measure) == wanted
        ),
        None,
    )


def sentence(record: TransferRecord, verdict: Verdict) -> str:
    """What changes from teacher to student, with its interval, and what follows."""
    change = measured(record, verdict.student, verdict.split, verdict.gap, "gap_widening")
    if change is None or change.value is None or change.low is None or change.high is None:
        return verdict.sentence
    seeds = plural(len(change.seeds), "seed")
    told = (
        f"From teacher to {verdict.student}, the {spoken(verdict.gap)} on {verdict.split} changes "
        f"by {percent(change.value, True)} points (95% interval {percent(change.low, True)} to "
        f"{percent(change.high, True)}, {seeds})"
    )
    why = verdict.sentence.partition("seed(s))")[2].strip(" ,:")
    few = re.fullmatch(r"\d+ seed\(s\), (a verdict needs \d+)\.", why)
    if verdict.state != "undecided":
        return f"{told}: its debiasing is {verdict.state}."
    return f"{told}: {f'{few[1]} seeds.' if few else why}" if why else f"{told}."


def numbers(record: TransferRecord) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of the main numbers: a row a set and role."""
    columns = (
        "set",
        "role",
        "accuracy",
        "worst group",
        "gap",
        f"worst group {MINUS} teacher",
        f"worst group {MINUS} control",
        "gap widening",
        "retention",
    )
    rows = list(number_rows(record))
    used = [i for i in range(len(columns)) if i < 5 or any(row[i] for row in rows)]
    return tuple(columns[i] for i in used), [tuple(row[i] for i in used) for row in rows]


def number_rows(record: TransferRecord) -> Iterator[Sequence[str]]:
    """The cells; "" where a number does not belong to a role."""
    primary = primary_gaps(record)
    for known in record.sets:
        gap = primary.get(known.name, "")
        for role, scores in scores_on(record, known.name).items():
            metric = "worst_group_acc" if "worst_group_acc" in scores.metrics else "acc"
            wanted = (
                (metric, "distillability"),
                (metric, "contribution"),
                (gap, "gap_widening"),
                (metric, "retention"),
            )
            transfer = (measured(record, role, known.name, *pair) for pair in wanted)
            yield (
                known.name,
                role,
                of_number(scores.metrics.get("acc")),
                of_number(scores.metrics.get("worst_group_acc")),
                of_number(scores.metrics.get(gap), True),
                *(
                    "" if number is None else of_number(number, measure != "retention")
                    for number, (_, measure) in zip(transfer, wanted, strict=True)
                ),
            )
