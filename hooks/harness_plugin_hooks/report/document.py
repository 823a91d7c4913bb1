"""The report of a run: of each task the answer, then why."""

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
from harness_plugin_hooks.render.text import listed, percent, plain, plural, rule_words
from harness_plugin_hooks.report.answer import Answered
from harness_plugin_hooks.report.examples import KINDS, Disagreements, Example, facets
from harness_plugin_hooks.report.figures.drawing import THEME, Picture
from harness_plugin_hooks.report.reading import RunPages, TaskPage


@dataclass(frozen=True)
class Part:
    """A heading with figures and a table below it."""

    title: str
    pictures: Sequence[Picture]
    sentences: Sequence[str] = ()
    notes: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True)
class TaskReport:
    """Everything that is said about one task."""

    page: TaskPage
    answers: Sequence[Answered]
    pictures: Sequence[Picture]
    """The figures that answer the title."""
    numbers: Table
    where: Sequence[Part]
    """Where debiasing is lost, by groups, bias types, answers and insides."""
    back: Sequence[Part]
    """The remedies' section: one a student that remedies were trained for, then certificates."""
    facts: Sequence[tuple[str, str]]
    models: Table
    config: str


def report(run: RunPages, tasks: Sequence[TaskReport]) -> Document:
    """The whole document."""
    about = (
        "How much of the teacher's debiasing does the student keep, where is it lost, what brings "
        "it back? Accuracies are percent, differences percentage points (bold where the interval "
        "leaves 0 out), intervals 95%."
    )
    footer = (
        f"Made by harness-plugin {__version__} from the run of {run.started}. All figures lie as "
        "PNG and SVG files beside this page."
    )
    title = f"Debiasing transfer: {listed([one.page.record.task for one in tasks])}"
    return Document(title, [Paragraph(about)], [of_task(one) for one in tasks], footer)


def of_task(one: TaskReport) -> Section:
    """One task: the answer, then why; what there is nothing to say of has no section."""
    record = one.page.record
    name = record.task
    run: list[Block] = [Terms(one.facts), one.models, Folded("Configuration", [Code(one.config)])]
    examples = [
        disagreements(example, opened=number == 0)
        for number, example in enumerate(one.page.examples)
    ]
    sections: list[tuple[str, str, Sequence[Block]]] = [
        ("Numbers", "numbers", [one.numbers]),
        ("Where is it lost", "where", parts(one.where, f"{name}-where", name)),
        ("What brings it back", "back", parts(one.back, f"{name}-back", name)),
        ("Examples", "examples", examples),
        ("Run", "run", run),
    ]
    return Section(
        name,
        name,
        [
            *answers(one),
            *(figure(picture, name) for picture in one.pictures),
            *(
                Section(
                    title,
                    f"{name}-{anchor}",
                    inside,
                    contents=f"{title}, {name}"
                    if sum(isinstance(block, Section) for block in inside) > 1
                    else "",
                )
                for title, anchor, inside in sections
                if inside
            ),
        ],
        contents=f"Sections of {name}",
        badge="embedded (generated) data" if record.source == "embedded" else "",
    )


def parts(sections: Sequence[Part], anchor: str, task: str) -> list[Block]:
    """A section for each part that says something; the only one needs no heading."""
    titled = [(part.title, list(blocks(part, task))) for part in sections]
    titled = [(title, inside) for title, inside in titled if inside]
    if len(titled) == 1:
        return titled[0][1]
    return [
        Section(title, f"{anchor}-{number}", inside)
        for number, (title, inside) in enumerate(titled)
    ]


def answers(one: TaskReport) -> Iterator[Block]:
    """The answer in one sentence; the other students and sets below it, and the rule."""
    if not one.answers:
        text = "No student was compared with a teacher: there is no transfer to judge."
        yield Paragraph(text, "answer")
        return
    first, *others = (
        (Text(answer.state.replace("_", " "), answer.state), f" {answer.sentence}")
        for answer in one.answers
    )
    yield Paragraph(first, "answer")
    if others:
        yield Items(others)
    rule = one.page.record.rule
    yield Paragraph(
        f"Verdicts: {rule_words(rule.margin, rule.min_seeds)}; groups under {rule.min_group} rows "
        "steer no worst group.",
        "soft",
    )


def blocks(part: Part, task: str) -> Iterator[Block]:
    """The blocks of a section."""
    if part.notes:
        yield Paragraph(f"{'. '.join(plain(n).rstrip('.') for n in part.notes)}.", "soft")
    for picture in part.pictures:
        yield figure(picture, task)
    if part.sentences:
        yield Items(part.sentences)
    if part.table is not None:
        yield part.table


def figure(picture: Picture, task: str) -> Figure:
    """A figure with the numbers behind it, where no other table of the page has them."""
    columns = tuple(map(Column, picture.columns))
    return Figure(
        picture.title,
        picture.svg,
        file_stem(f"{task}_{picture.name}"),
        picture.about,
        Table(picture.title, columns, picture.rows, titled=False) if columns else None,
        THEME,
        picture.caption,
    )


def file_stem(name: str) -> str:
    """A name that every file system has: sets and bias types are called what a user likes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:120]


def disagreements(pair: Disagreements, opened: bool) -> Folded:
    """Some of the rows on which a student and its teacher disagree."""
    total = sum(pair.counts.values())
    kinds = [f"{KINDS[kind]} {count:,}" for kind, count in pair.counts.items() if count]
    about = (
        f"{pair.student} and its teacher disagree on {total:,} of {pair.rows:,} rows (all seeds "
        f"together)" + (f": {listed(kinds)}. " if kinds else ". ")
    )
    if total:
        about += (
            f"Shown: {len(pair.examples):,}, in turn from every kind, group and seed, those first "
            "on which the two are furthest apart."
        )
    title = f"{pair.student} on {pair.split}: {plural(total, 'disagreement')}"
    return Folded(title, [Paragraph(about), Cards([card(one) for one in pair.examples])], opened)


def card(example: Example) -> Card:
    """One row: what was shown, what is right, what each role says."""
    filters = dict(facets(example))
    terms: list[tuple[str, Inline]] = [("right", example.gold)]
    for role, answer in example.answers.items():
        label = Text(answer.label, "kept" if answer.label == example.gold else "lost")
        sure = answer.probability
        terms.append(
            (role, label if sure is None else (label, Text(f" {percent(sure, False)}%", "soft")))
        )
    kept = [f"{key} {value}" for key, value in filters.items() if key not in ("kind", "label")]
    note = (f"{KINDS[example.kind]}; {', '.join(kept)}; id ", Text(example.id, "code"))
    return Card(
        example.id,
        filters,
        example.distance,
        (
            *(Paragraph((Text(f"{name} ", "soft"), text)) for name, text in example.texts.items()),
            Terms(terms),
            Paragraph(note, "soft"),
        ),
        example.image,
        f"example {example.id}, {example.gold}",
    )
