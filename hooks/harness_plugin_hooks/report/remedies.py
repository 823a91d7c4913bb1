"""The report's section on remedies: those that were trained, their gains and their cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness_plugin.scoring.files.transfer_record import TransferRecord
from harness_plugin.store.files import read_json
from harness_plugin_hooks.render.document import Column, Number, Table, Text
from harness_plugin_hooks.render.text import DASH, metric_title, operations, percent, plural
from harness_plugin_hooks.report.figures.drawing import (
    NARROW,
    OTHER,
    PAGE,
    SOFT,
    STUDENT,
    Axes,
    Picture,
    canvas,
    numbers,
)
from harness_plugin_hooks.report.figures.scores import clipped

WHEN = r"\d{4}-[0-9T.-]+"


@dataclass(frozen=True)
class RemedyFile:
    """One file of `harness remedy`: a student with and without each remedy."""

    file: Path
    record: Mapping[str, Any]

    @property
    def results(self) -> Sequence[Mapping[str, Any]]:
        """One a remedy, the best first; "none" is the student as it is."""
        rows: Sequence[Mapping[str, Any]] = self.record["remedies"]
        return rows

    @property
    def plain(self) -> Mapping[str, Any]:
        """The student without a remedy."""
        return next(one for one in self.results if one["remedy"] == "none")


def read(folder: Path, of_task: TransferRecord) -> list[RemedyFile]:
    """The newest remedies of each student of a task, in the run's folder or in one beside it.

    Those in the run's folder were tried on data of the same source, the others on the same data.
    """
    name = re.compile(rf"remedies_{re.escape(of_task.task)}_{WHEN}\.json")
    beside = folder.resolve().parent.glob(f"*/remedies_{of_task.task}_*.json")
    files = {file.resolve(): file for file in (*beside, *folder.glob("remedies_*.json"))}
    by_remedy_file: dict[str, RemedyFile] = {}
    for file in sorted(files.values(), key=lambda file: file.name):
        if not name.fullmatch(file.name):
            continue
        record = read_json(file)
        keys = ("source",) if file.parent == folder else ("source", "fingerprint")
        if isinstance(record, dict) and all(record.get(k) == getattr(of_task, k) for k in keys):
            by_remedy_file[str(record.get("baseline"))] = RemedyFile(file, record)
    return list(by_remedy_file.values())


def notes(remedy_file: RemedyFile, of_task: TransferRecord) -> Iterator[str]:
    """Notes for a reader of these numbers."""
    record = remedy_file.record
    yield (
        f"Student {record['baseline']} with one change each, ranked on {record['rows']}: no test "
        f"row was looked at ({plural(len(record['seeds']), 'seed')}; {remedy_file.file.name})"
    )
    if record["fingerprint"] != of_task.fingerprint:
        yield "Tried on other data than the run's: their fingerprints differ"
    for skipped in record["skipped"]:
        yield f"Not tried: {skipped['remedy']} ({skipped['reason']})"


def table(remedy_file: RemedyFile) -> Table:
    """A row a remedy, the best first."""
    record = remedy_file.record
    titles = (
        "remedy",
        metric_title(record["ranked_by"]),
        "gained",
        "brought back, %",
        metric_title(record["gap"] or "gap"),
        "accuracy",
        "time",
        "operations",
    )
    about = {
        "brought back, %": "of the teacher's advantage over the student without a remedy",
        "time": "of training, against the student's without a remedy, further teachers included",
        "operations": f"the same in FLOP: {operations(remedy_file.plain['training_operations'])} "
        "without a remedy",
    }
    rows = [
        (
            Text(one["remedy"], below=(one["words"],)),
            number(one["score"]),
            None if one["remedy"] == "none" else number(one["gained"], signed=True),
            DASH if one["brought_back"] is None else percent(one["brought_back"], False),
            number(one["gap"], signed=True),
            number(one["accuracy"]),
            against(remedy_file, one, "training_seconds"),
            against(remedy_file, one, "training_operations"),
        )
        for one in remedy_file.results
    ]
    columns = tuple(Column(title, about.get(title, "")) for title in titles)
    title = f"Remedies tried for {record['baseline']}"
    return Table(title, columns, rows, titled=False, row_header=0)


def number(estimate: Mapping[str, Any] | None, signed: bool = False) -> Number:
    """An estimate of the file as a cell."""
    return Number.of(None if estimate is None else SimpleNamespace(reason="", **estimate), signed)


def against(remedy_file: RemedyFile, one: Mapping[str, Any], price: str) -> str:
    """A price against that of the student without a remedy; a dash where it was not trained."""
    plain = remedy_file.plain[price]
    return f"{one[price] / plain:.1f}\u00d7" if plain else DASH


def picture(remedy_file: RemedyFile) -> Picture:
    """Gain of each remedy over the unchanged student, with its interval; the best on top."""
    shown = [one for one in remedy_file.results if one["gained"]["value"] is not None]
    helps = set(remedy_file.record["shown_to_help"])
    figure = canvas(0.9 + 0.32 * len(shown), NARROW)
    axes = figure.subplots()
    draw(axes, remedy_file, shown, helps)
    metric = metric_title(remedy_file.record["ranked_by"])
    axes.set_xlabel(f"gained in {metric}, points")
    baseline = remedy_file.record["baseline"]
    return Picture(
        name=f"remedies_{baseline}",
        title=f"What each remedy gains for {baseline}",
        about="0: the student as it is. Filled: shown to help (joint error 5%, Holm). Lines: 95% "
        "intervals. At the right: operations of the training against the student's.",
        figure=figure,
        columns=(),
        rows=(),
        caption=str(remedy_file.record["answer"]),
    )


def draw(
    axes: Axes, remedy_file: RemedyFile, shown: Sequence[Mapping[str, Any]], helps: set[str]
) -> None:
    """A line a remedy."""
    for y, one in enumerate(shown):
        value, low, high = 100 * numbers([one["gained"][key] for key in ("value", "low", "high")])
        is_plain = one["remedy"] == "none"
        colour = OTHER if is_plain else STUDENT
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, zorder=2)
        fill = colour if one["remedy"] in helps else PAGE
        axes.plot([value], [y], "o", color=colour, markerfacecolor=fill, markersize=6.5, zorder=3)
        axes.annotate(
            against(remedy_file, one, "training_operations"),
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    axes.axvline(0, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yticks(range(len(shown)), [clipped(one["remedy"], 22) for one in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
