"""The rows on which a student answers otherwise than its teacher, with what both were shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from harness_plugin.analysis.run_data import RunData
from harness_plugin.data.dataset import Split
from harness_plugin.data.images import to_rgb
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError
from harness_plugin.plugins.registry import Plugins
from harness_plugin.records import Predictions, TrainedModel
from harness_plugin.scoring.files.prediction_tables import EvaluationSet, file_name, from_csv
from harness_plugin.scoring.files.transfer_record import Model, TransferRecord
from harness_plugin.scoring.pairing import by_id, check_same_rows

if TYPE_CHECKING:
    from harness_plugin.analysis.loaded_models import FinishedTask

Kind: TypeAlias = Literal["lost", "gained", "other"]
KINDS: dict[Kind, str] = {
    "lost": "teacher right, student wrong",
    "gained": "teacher wrong, student right",
    "other": "both wrong, differently",
}
LONGEST = 600
"""Characters of a text that are shown."""

SIDE, SMALL = 144, 64
"""Pixels of a thumbnail's longer side; up to the second an image is kept to the pixel."""


@dataclass(frozen=True)
class Answer:
    """A label, and how probable the model found it (None where it only gave labels)."""

    label: str
    probability: float | None


@dataclass(frozen=True)
class Example:
    """One row and seed."""

    id: str
    seed: int
    kind: Kind
    gold: str
    groups: tuple[str, ...]
    types: Mapping[str, str]
    answers: Mapping[str, Answer]
    distance: float
    """Total variation distance of the two models' probabilities, in [0, 1]."""
    texts: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    """A data URI."""


@dataclass(frozen=True)
class Disagreements:
    """Of one student on one set: how many there are, and some of them."""

    student: str
    split: str
    rows: int
    """Rows times seeds."""
    counts: Mapping[Kind, int]
    examples: Sequence[Example]


def disagreements(
    data: RunData,
    plugins: Plugins,
    record: TransferRecord,
    folder: Path,
    students: Sequence[str],
    most: int,
) -> list[Disagreements]:
    """At most `most` examples of each student on each set, spread over kinds, groups and seeds.

    Sets out of domain come first.
    """
    out, answers = [], Answers(data, plugins, record, folder)
    for known in reversed(record.sets):
        split = next(s for s in data.opened.data.evaluation if s.name == known.name)
        of_set, shown = answers.on(known, split), Shown(data.opened.task, split)
        out += [of_student(of_set, student, known.name, shown, most) for student in students]
    return out


@dataclass(frozen=True)
class Answers:
    """Predictions of a run: from its files, or where these are not from its store."""

    data: RunData
    plugins: Plugins
    record: TransferRecord
    folder: Path

    def on(self, known: EvaluationSet, split: Split) -> dict[tuple[str, int], Predictions]:
        """(role, seed) -> its predictions on a set, rows sorted by id."""
        record = self.record
        file = self.folder / file_name(record.task, known.name, self.data.started)
        if file.is_file():
            names = {(model.role, model.seed): model.name for model in record.models}
            text = file.read_text(encoding="utf-8")
            answers = from_csv(text, known, record.task, names, str(file))
        else:
            answers = [by_id(p) for p in self.stored(split)]
        for p in answers:
            check_same_rows(p, answers[0])
        return {(p.role, p.seed): p for p in answers}

    def stored(self, split: Split) -> Iterator[Predictions]:
        """Predictions of teacher, students and controls on a set, as the store has them."""
        from harness_plugin.pipeline.roles.split_stages import predict_split

        for model in self.record.models:
            if model.role.startswith(("teacher", "student", "control")):
                yield predict_split(self.finished.ctx, trained(model, self.record.task), split)

    @cached_property
    def finished(self) -> FinishedTask:
        """The task with the context that it was run in; it takes torch."""
        from harness_plugin.analysis.open_run import with_context

        return with_context(self.data, self.plugins)


def trained(model: Model, task: str) -> TrainedModel:
    """A model of the record, whose predictions the store may hold; HarnessError if it cannot."""
    from harness_plugin.pipeline.roles.split_stages import weights_key

    path = Path(model.path)
    if model.method == "predictions":
        raise HarnessError(
            f"{model.role} was scored from a file of predictions; score it with --log_samples."
        )
    if not path.is_dir() and model.method != "as saved":
        raise HarnessError(
            f"the checkpoint of {model.role} seed {model.seed} is gone ({path}); run with "
            f"--log_samples to keep predictions beside the results."
        )
    return TrainedModel(
        task,
        model.role,
        model.seed,
        model.name,
        path,
        model.model,
        model.method,
        model.settings,
        key=model.settings.get("stage") or weights_key(model.path),
        kind=model.kind,
        start=model.start,
        labels=tuple(model.settings["labels"]),
        max_length=int(model.settings["max_length"]),
    )


@dataclass(frozen=True)
class Shown:
    """A row as a model reads it."""

    task: Task
    split: Split

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id -> row."""
        return {name: row for row, name in enumerate(self.split.ids.tolist())}

    def of(self, name: str) -> dict[str, Any]:
        """Texts, or an image, as arguments of `Example`."""
        row = self.split.rows[self.rows[name]]
        inputs = self.task.inputs
        if self.task.modality == "image":
            return {"image": thumbnail(row[inputs[0]])}
        return {"texts": {column: shortened(str(row[column])) for column in inputs}}


def of_student(
    answers: Mapping[tuple[str, int], Predictions],
    student: str,
    split: str,
    shown: Shown,
    most: int,
) -> Disagreements:
    """One student against the teacher, all seeds together."""
    seeds = sorted(seed for role, seed in answers if role == student)
    counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    piles: list[list[tuple[float, int, int, Kind]]] = []
    total = 0
    for seed in seeds:
        teacher, own = answers["teacher", seed], answers[student, seed]
        total += len(own)
        distance = np.abs(teacher.probabilities - own.probabilities).sum(axis=1) / 2
        for kind, rows in kinds_of(teacher, own).items():
            counts[kind] += int(rows.sum())
            for pattern in np.unique(own.pattern[rows]):
                pile = np.flatnonzero(rows & (own.pattern == pattern))
                pile = pile[np.argsort(-distance[pile], kind="stable")][:most]
                piles.append([(float(distance[row]), seed, int(row), kind) for row in pile])
    chosen = in_turn(piles, most)
    controls = [role for role, seed in answers if role.startswith("control") and seed == seeds[0]]
    roles = [role for role in ("teacher", student, *controls) if (role, seeds[0]) in answers]
    return Disagreements(
        student,
        split,
        total,
        counts,
        [example(answers, roles, shown, *place) for place in chosen],
    )


def kinds_of(teacher: Predictions, own: Predictions) -> dict[Kind, np.ndarray[Any, Any]]:
    """(N,) for every kind of disagreement, whether a row is one."""
    apart = teacher.predicted != own.predicted
    return {
        "lost": apart & teacher.correct,
        "gained": apart & own.correct,
        "other": apart & ~teacher.correct & ~own.correct,
    }


def in_turn(piles: Sequence[Sequence[Any]], most: int) -> list[Any]:
    """One of each pile, then the next of each, until there are `most`."""
    rounds = zip_longest(*piles)
    return [one for turn in rounds for one in turn if one is not None][:most]


def example(
    answers: Mapping[tuple[str, int], Predictions],
    roles: Sequence[str],
    shown: Shown,
    distance: float,
    seed: int,
    row: int,
    kind: Kind,
) -> Example:
    """One row with what each role answers."""
    p = answers[roles[0], seed]
    return Example(
        id=str(p.ids[row]),
        seed=seed,
        kind=kind,
        gold=p.labels[p.label[row]],
        groups=tuple(p.groups[g] for g in np.flatnonzero(p.membership[row])),
        types={name: str(values[row]) for name, values in p.breakdowns.items() if values[row]},
        answers={role: answer(answers[role, seed], row) for role in roles},
        distance=distance,
        **shown.of(str(p.ids[row])),
    )


def answer(p: Predictions, row: int) -> Answer:
    """One model's answer on one row."""
    predicted = int(p.predicted[row])
    sure = None if p.labels_only else float(p.probabilities[row, predicted])
    return Answer(p.labels[predicted], sure)


def shortened(text: str) -> str:
    """A text on one line, cut where it is long."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[:LONGEST].rstrip() + " …"


def thumbnail(image: Any) -> str:
    """A small copy as a data URI."""
    small = to_rgb(image)
    small.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    exact = max(small.size) <= SMALL
    small.save(out, format="PNG" if exact else "JPEG", **({} if exact else {"quality": 85}))
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


def facets(example: Example) -> Iterator[tuple[str, str]]:
    """Filters of an example."""
    yield "kind", KINDS[example.kind]
    yield "seed", str(example.seed)
    if example.groups:
        yield "group", " & ".join(example.groups)
    yield "label", example.gold
    yield from example.types.items()
