"""The page of a run: one HTML file that asks nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from harness_plugin import __version__
from harness_plugin_hooks.html import Page
from harness_plugin_hooks.report.answer import Answered
from harness_plugin_hooks.report.drawing import Picture, inline
from harness_plugin_hooks.report.examples import KINDS, Disagreements, Example, facets
from harness_plugin_hooks.report.reading import RunPages, TaskPage
from harness_plugin_hooks.report.words import DASH, listed, percent, plain, plural

MARKS = {"kept": "\u2713", "lost": "\u2717", "undecided": "?"}


@dataclass(frozen=True)
class Section:
    """A heading with figures below it; without any, one line that says why."""

    title: str
    pictures: Sequence[Picture]
    said: Sequence[str] = ()
    missing: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Told:
    """One task, as the page tells it."""

    page: TaskPage
    answers: Sequence[Answered]
    numbers: tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]]
    models: tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
    config: str


def page(run: RunPages, tasks: Sequence[Told], title: str) -> str:
    """The whole page."""
    made = Page.of(__package__, plain(title))
    body = made.body
    header = SubElement(body, "header")
    SubElement(header, "h1").text = plain(title)
    SubElement(header, "p").text = (
        "How much of the teacher's debiasing does the student keep, where is it lost? Accuracies "
        "are percent, differences percentage points, intervals 95%."
    )
    main = SubElement(body, "main")
    for told in tasks:
        task(main, told, many=len(tasks) > 1)
    footer = SubElement(SubElement(body, "footer"), "p", {"class": "soft"})
    footer.text = (
        f"Made by harness-plugin {__version__} from the run of {run.started}. All figures lie as "
        "PNG and SVG files beside this page."
    )
    return made.written()


def task(main: Element, told: Told, many: bool) -> None:
    """One task: the answer, then why."""
    record = told.page.record
    name = record.task
    part = SubElement(main, "article", {"id": name, "aria-labelledby": f"{name}-heading"})
    heading = SubElement(part, "h2", id=f"{name}-heading")
    SubElement(heading, "bdi").text = plain(name)
    if record.source == "embedded":
        badge = SubElement(heading, "strong", {"class": "badge"})
        badge.text = "embedded (generated) data"
    answers(part, told.answers)
    headings = ["Numbers", *(s.title for s in told.sections), "Examples", "Run"]
    navigation(part, name, headings)
    section = opened(part, name, headings, "Numbers")
    table(section, *told.numbers, caption=f"Scores of {name}")
    for wanted in told.sections:
        section = opened(part, name, headings, wanted.title)
        if not wanted.pictures:
            SubElement(section, "p", {"class": "missing"}).text = wanted.missing
        if wanted.notes:
            notes = SubElement(section, "p", {"class": "soft"})
            notes.text = f"{'. '.join(note.rstrip('.') for note in map(plain, wanted.notes))}."
        if wanted.said:
            items = SubElement(section, "ul", {"class": "answers"})
            for sentence in wanted.said:
                SubElement(items, "li").text = plain(sentence)
        for picture in wanted.pictures:
            figure(section, picture, f"{name}-{picture.name}")
    section = opened(part, name, headings, "Examples")
    if not told.page.examples:
        SubElement(section, "p", {"class": "missing"}).text = told.page.without_examples
    for number, found in enumerate(told.page.examples):
        browser(section, found, f"{name}-examples-{number}", unfolded=number == 0)
    facts(opened(part, name, headings, "Run"), told)


def opened(part: Element, name: str, headings: Sequence[str], title: str) -> Element:
    """A section under its heading."""
    anchor = f"{name}-{headings.index(title)}"
    section = SubElement(part, "section", {"aria-labelledby": anchor})
    SubElement(section, "h3", id=anchor).text = title
    return section


def navigation(part: Element, name: str, headings: Sequence[str]) -> None:
    """Where the sections are."""
    items = SubElement(SubElement(part, "nav", {"aria-label": f"Sections of {name}"}), "ul")
    for number, title in enumerate(headings):
        SubElement(SubElement(items, "li"), "a", href=f"#{name}-{number}").text = title


def answers(part: Element, found: Sequence[Answered]) -> None:
    """The answer in one sentence; the other students and sets below it."""
    if not found:
        SubElement(
            part, "p", {"class": "answer"}
        ).text = "No student was compared with a teacher: there is no transfer to judge."
        return
    first, *others = found
    line = SubElement(part, "p", {"class": f"answer {first.state}"})
    state(line, first)
    if others:
        items = SubElement(part, "ul", {"class": "answers"})
        for other in others:
            state(SubElement(items, "li"), other)


def state(parent: Element, found: Answered) -> None:
    """A word, told apart by more than its colour, and the sentence behind it."""
    badge = SubElement(parent, "strong", {"class": f"state {found.state}"})
    badge.text = f"{MARKS[found.state]}\u00a0{found.state}"
    badge.tail = " " + found.sentence


def figure(parent: Element, picture: Picture, prefix: str) -> None:
    """A figure, what to see in it, and its numbers."""
    prefix = "".join(c if c.isalnum() or c in "-_" else "-" for c in prefix)
    part = SubElement(parent, "figure", id=prefix)
    caption = SubElement(part, "figcaption")
    SubElement(caption, "strong").text = plain(picture.title)
    SubElement(caption, "span", {"class": "soft"}).text = f" {picture.about}"
    scroll = {"class": "plot", "role": "region", "tabindex": "0"}  # a narrow screen scrolls it
    scroll["aria-label"] = plain(picture.title)
    SubElement(part, "div", scroll).append(inline(picture, prefix))
    folded = SubElement(part, "details")
    SubElement(folded, "summary").text = f"Numbers ({plural(len(picture.rows), 'row')})"
    table(folded, picture.columns, picture.rows, caption=picture.title)


def table(
    parent: Element, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str
) -> None:
    """A table; columns whose cells begin with digits or a dash are set right.

    A cell is `value (interval)` or, where a number is undefined, a dash and `(reason)`: reasons are
    told below the table.
    """
    scroll = SubElement(
        parent,
        "div",
        {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": plain(caption)},
    )
    made = SubElement(scroll, "table")
    SubElement(made, "caption", {"class": "aside"}).text = plain(caption)
    right = [
        all(row[i][:1].isdigit() or row[i][:1] in ("", *SIGNS) for row in rows)
        for i in range(len(columns))
    ]
    line = SubElement(SubElement(made, "thead"), "tr")
    for title, number in zip(columns, right, strict=True):
        cell = SubElement(line, "th", {"scope": "col", **({"class": "number"} if number else {})})
        cell.text = plain(title)
    body = SubElement(made, "tbody")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        line = SubElement(body, "tr")
        for title, text, number in zip(columns, row, right, strict=True):
            cell = SubElement(line, "td", {"class": "number"} if number else {})
            value, bracket, rest = text.partition(" (") if number else (text, "", "")
            rest = plain(rest.removesuffix(")"))
            cell.text = plain(value)
            if bracket and value == DASH:
                cell.set("title", rest)
                reasons.setdefault(rest, []).append(title)
            elif bracket:
                SubElement(cell, "span", {"class": "soft"}).text = rest
    if reasons:
        note = SubElement(parent, "p", {"class": "soft reasons"})
        told = [f"{', '.join(dict.fromkeys(of))}: {why}" for why, of in reasons.items()]
        more = len(told) - MOST_REASONS
        told[MOST_REASONS:] = [f"and {more:,} more reasons"] if more > 0 else []
        note.text = f"{DASH} undefined. {'. '.join(map(plain, told))}."


MOST_REASONS = 6
SIGNS = ("+", "\u2212", DASH, ".")


# ---- examples


def browser(parent: Element, found: Disagreements, anchor: str, unfolded: bool) -> None:
    """Some of the rows on which a student and its teacher disagree."""
    part = SubElement(parent, "details", {"class": "browser", "id": anchor})
    if unfolded:
        part.set("open", "open")
    total = sum(found.counts.values())
    summary = SubElement(part, "summary")
    summary.text = plain(f"{found.student} on {found.split}: {plural(total, 'disagreement')}")
    told = [f"{KINDS[kind]} {count:,}" for kind, count in found.counts.items() if count]
    about = SubElement(part, "p")
    about.text = (
        f"{found.student} and its teacher disagree on {total:,} of {found.rows:,} rows (all seeds "
        f"together)" + (f": {listed(told)}. " if told else ". ")
    )
    if total:
        about.text += (
            f"Shown: {len(found.examples):,}, in turn from every kind, group and seed, those first "
            "on which the two are furthest apart."
        )
    items = SubElement(part, "ol", {"class": "examples"})
    for one in found.examples:
        example(items, one)


def example(items: Element, found: Example) -> None:
    """One row: what was shown, what is right, what each role says."""
    filters: Mapping[str, str] = {key: plain(value) for key, value in facets(found)}
    item = SubElement(
        items,
        "li",
        {
            "data-facets": json.dumps(filters),
            "data-distance": f"{found.distance:.6f}",
            "data-id": plain(found.id),
            "class": "image" if found.image else "text",
        },
    )
    if found.image:
        alt = f"example {plain(found.id)}, {plain(found.gold)}"
        SubElement(item, "img", src=found.image, alt=alt)
    inside = SubElement(item, "div")
    for column, text in found.texts.items():
        line = SubElement(inside, "p", {"class": "shown"})
        SubElement(line, "span", {"class": "soft"}).text = f"{plain(column)} "
        SubElement(line, "bdi").text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    said = SubElement(inside, "dl", {"class": "said"})
    pairs: list[tuple[str, str, float | None, bool]] = [("right", found.gold, None, True)]
    for role, answer in found.answers.items():
        pairs.append((role, answer.label, answer.probability, answer.label == found.gold))
    for role, label, probability, right in pairs:
        SubElement(said, "dt").text = plain(role)
        verdict = "kept" if right else "lost"
        cell = SubElement(said, "dd", {} if role == "right" else {"class": verdict})
        cell.text = None if role == "right" else f"{MARKS[verdict]} "
        SubElement(cell, "bdi").text = plain(label)
        if probability is not None:
            sure = SubElement(cell, "span", {"class": "soft"})
            sure.text = f" {percent(probability, False)}%"
    kept = [f"{key} {value}" for key, value in filters.items() if key not in ("kind", "label")]
    note = SubElement(inside, "p", {"class": "soft"})
    note.text = f"{KINDS[found.kind]}; {', '.join(kept)}; id "
    SubElement(note, "code").text = plain(found.id)


# ---- the run


def facts(section: Element, told: Told) -> None:
    """What was run, on what, with which settings."""
    terms = SubElement(section, "dl", {"class": "facts"})
    for term, meaning in told.facts:
        SubElement(terms, "dt").text = term
        SubElement(terms, "dd").text = meaning
    table(section, *told.models, caption=f"Models of {told.page.record.task}")
    folded = SubElement(section, "details")
    SubElement(folded, "summary").text = "Configuration"
    SubElement(folded, "pre", {"tabindex": "0"}).text = told.config
