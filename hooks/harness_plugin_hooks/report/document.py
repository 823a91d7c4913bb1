"""What the report of a run says: of each task the answer, then why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness_plugin import __version__
from harness_plugin_hooks.render.document import (
    Block,
    Card,
    Cards,
    Code,
    Column,
    Document,
    Figure,
    Folded,
    Inline,
    Items,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
)
from harness_plugin_hooks.render.text import listed, percent, plain, plural
from harness_plugin_hooks.report.answer import Answered
from harness_plugin_hooks.report.drawing import THEME, Picture
from harness_plugin_hooks.report.examples import KINDS, Disagreements, Example, facets
from harness_plugin_hooks.report.reading import RunPages, TaskPage


@dataclass(frozen=True)
class Part:
    """A heading with figures below it; without any, one line that says why."""

    title: str
    pictures: Sequence[Picture]
    sentences: Sequence[str] = ()
    missing: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TaskReport:
    """Everything that is said about one task."""

    page: TaskPage
    answers: Sequence[Answered]
    numbers: Table
    parts: Sequence[Part]
    facts: Sequence[tuple[str, str]]
    models: Table
    config: str


def report(run: RunPages, tasks: Sequence[TaskReport]) -> Document:
    """The whole document."""
    about = (
        "How much of the teacher's debiasing does the student keep, where is it lost? Accuracies "
        "are percent, differences percentage points (bold where the interval leaves 0 out), "
        "intervals 95%."
    )
    footer = (
        f"Made by harness-plugin {__version__} from the run of {run.started}. All figures lie as "
        "PNG and SVG files beside this page."
    )
    title = f"Debiasing transfer: {listed([one.page.record.task for one in tasks])}"
    return Document(title, [Paragraph(about)], [of_task(one) for one in tasks], footer)


def of_task(one: TaskReport) -> Section:
    """One task: the answer, then why."""
    record = one.page.record
    name = record.task
    examples: list[Block] = [
        disagreements(found, opened=number == 0) for number, found in enumerate(one.page.examples)
    ]
    run: list[Block] = [Terms(one.facts), one.models, Folded("Configuration", [Code(one.config)])]
    sections: list[tuple[str, Sequence[Block]]] = [
        ("Numbers", [one.numbers]),
        *((part.title, list(blocks(part, name))) for part in one.parts),
        ("Examples", examples or [Paragraph(one.page.without_examples, "soft")]),
        ("Run", run),
    ]
    return Section(
        name,
        name,
        [
            *answers(one.answers),
            *(Section(t, f"{name}-{n}", inside) for n, (t, inside) in enumerate(sections)),
        ],
        contents=f"Sections of {name}",
        badge="embedded (generated) data" if record.source == "embedded" else "",
    )


def answers(found: Sequence[Answered]) -> Iterator[Block]:
    """The answer in one sentence; the other students and sets below it."""
    if not found:
        said = "No student was compared with a teacher: there is no transfer to judge."
        yield Paragraph(said, "answer")
        return
    first, *others = ((Text(answer.state, answer.state), f" {answer.sentence}") for answer in found)
    yield Paragraph(first, "answer")
    if others:
        yield Items(others)


def blocks(part: Part, task: str) -> Iterator[Block]:
    """What a section holds."""
    if not part.pictures:
        yield Paragraph(part.missing, "soft")
    if part.notes:
        yield Paragraph(f"{'. '.join(plain(n).rstrip('.') for n in part.notes)}.", "soft")
    if part.sentences:
        yield Items(part.sentences)
    for picture in part.pictures:
        columns = tuple(map(Column, picture.columns))
        yield Figure(
            picture.title,
            picture.svg,
            file_stem(f"{task}_{picture.name}"),
            picture.about,
            Table(picture.title, columns, picture.rows, titled=False),
            THEME,
        )


def file_stem(name: str) -> str:
    """A name that every file system has: sets and bias types are called what a user likes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:120]


def disagreements(found: Disagreements, opened: bool) -> Folded:
    """Some of the rows on which a student and its teacher disagree."""
    total = sum(found.counts.values())
    kinds = [f"{KINDS[kind]} {count:,}" for kind, count in found.counts.items() if count]
    about = (
        f"{found.student} and its teacher disagree on {total:,} of {found.rows:,} rows (all seeds "
        f"together)" + (f": {listed(kinds)}. " if kinds else ". ")
    )
    if total:
        about += (
            f"Shown: {len(found.examples):,}, in turn from every kind, group and seed, those first "
            "on which the two are furthest apart."
        )
    title = f"{found.student} on {found.split}: {plural(total, 'disagreement')}"
    return Folded(title, [Paragraph(about), Cards([card(one) for one in found.examples])], opened)


def card(found: Example) -> Card:
    """One row: what was shown, what is right, what each role says."""
    filters = dict(facets(found))
    said: list[tuple[str, Inline]] = [("right", found.gold)]
    for role, answer in found.answers.items():
        label = Text(answer.label, "kept" if answer.label == found.gold else "lost")
        sure = answer.probability
        said.append(
            (role, label if sure is None else (label, Text(f" {percent(sure, False)}%", "soft")))
        )
    kept = [f"{key} {value}" for key, value in filters.items() if key not in ("kind", "label")]
    note = (f"{KINDS[found.kind]}; {', '.join(kept)}; id ", Text(found.id, "code"))
    return Card(
        found.id,
        filters,
        found.distance,
        (
            *(Paragraph((Text(f"{name} ", "soft"), text)) for name, text in found.texts.items()),
            Terms(said),
            Paragraph(note, "soft"),
        ),
        found.image,
        f"example {found.id}, {found.gold}",
    )
