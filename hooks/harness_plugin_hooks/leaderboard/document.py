"""The leaderboard's page: a table for each board, the refused submissions, how it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness_plugin import __version__
from harness_plugin.records import VerdictRule
from harness_plugin_hooks.leaderboard.board import Board, Row
from harness_plugin_hooks.leaderboard.bundle import Problem
from harness_plugin_hooks.render.document import (
    Cell,
    Column,
    Document,
    Items,
    Number,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
)
from harness_plugin_hooks.render.text import DASH, metric_title, plural, rule_words


@dataclass(frozen=True)
class Measure:
    """A column of numbers."""

    key: str
    column: Column
    signed: bool = False


def measures(board: Board) -> list[Measure]:
    """The columns of numbers that any row of the board has."""
    metric, gap = metric_title(board.metric), metric_title(board.gap)
    of_student = f"{metric} of the student minus its"
    every = (
        (board.metric, metric, "what the rank is about, with its 95% interval", False),
        ("acc", "accuracy", "share of correct rows", False),
        (
            board.gap,
            gap,
            "the primary gap of this set; 0 treats both sides alike",
            True,
        ),
        (f"teacher_{board.metric}", f"teacher's {metric}", "of the model it learned from", False),
        ("distillability", "distillability", f"{of_student} teacher's", True),
        ("contribution", "contribution", f"{of_student} twin's that had no teacher", True),
        (
            "gap_size_change",
            "change of gap size",
            f"size of the {gap}, student minus teacher: the verdict's number; below 0 is narrower",
            True,
        ),
        (
            "retention",
            "retention",
            f"share of the teacher's gain in {metric} over ERM that the student has over its own",
            False,
        ),
    )
    shown: dict[str, Measure] = {}
    for key, title, about, signed in every:
        if key and any(key in row.numbers for row in board.rows):
            narrow = key in (board.gap, "gap_size_change")
            first: Column = Column(
                title, about, "ascending" if narrow else "descending", key == board.metric
            )
            shown.setdefault(key, Measure(key, first, signed))
    return list(shown.values())


def leaderboard(
    boards: Sequence[Board],
    refused: Mapping[str, Sequence[Problem]],
    title: str,
    rule: VerdictRule,
) -> Document:
    """The whole document; `refused` are the bundles left out, by file."""
    about = (
        "How much of a teacher's debiasing its student keeps. Every number was computed again from "
        "the predictions of the submission."
    )
    sections = [section(board, f"board-{n}") for n, board in enumerate(boards, start=1)]
    if refused:
        items = [refusal(file, problems) for file, problems in refused.items()]
        sections.append(Section("Refused", "refused", [Items(items)]))
    terms = Terms(list(explanation(boards, rule)))
    sections.append(Section("How to read the tables", "how", [terms]))
    footer = [f"Made by harness-plugin {__version__}. The same as data: "]
    files = [Text(name, target=name) for name in ("leaderboard.json", "leaderboard.csv")]
    return Document(
        title,
        [Paragraph(about)],
        sections,
        [*footer, files[0], ", ", files[1], "."],
        contents="Sections" if len(boards) > 1 else "",
        wide=True,
    )


def section(board: Board, anchor: str) -> Section:
    """One board: what it is about, and its table."""
    record, known = board.record, board.known
    kind = "in domain" if known.purpose == "in_domain" else "out of distribution"
    embedded = record.source == "embedded"
    about: list[str | Text] = [
        f"{kind}, {known.rows:,} examples, {len(known.groups)} groups; data source "
        f"{record.source}, fingerprint ",
        Text(record.fingerprint[:12], "code", about=record.fingerprint),
        ", rows ",
        Text(known.rows_sha256[:12], "code", about=known.rows_sha256),
        ".",
    ]
    if any(row.verdict for row in board.rows):
        about.append(f" Verdicts: {rule_words(board.rule.margin, board.rule.min_seeds)}.")
    return Section(
        board.name,
        anchor,
        [Paragraph(about, "soft"), table(board)],
        listed_as=f" ({record.source} data, {plural(len(board.rows), 'student')})",
        badge="demonstration: embedded (generated) data" if embedded else "",
    )


def table(board: Board) -> Table:
    """The table of one board, in order of rank."""
    shown = measures(board)
    columns = [
        Column("rank", "the ranks that the intervals allow"),
        Column("student", "submission and student; model, method and distiller; file"),
    ]
    if verdicts := any(row.verdict for row in board.rows):
        columns.append(Column("debiasing", "is the teacher's debiasing kept"))
    columns += [
        *(measure.column for measure in shown),
        Column("seeds", "trainings", "descending"),
    ]
    rows = [
        (
            Text(DASH, below=(row.unranked,)) if row.rank is None else row.rank,
            name(row),
            *([verdict(row)] if verdicts else []),
            *(Number.of(row.numbers.get(m.key), m.signed) for m in shown),
            row.seeds,
        )
        for row in board.rows
    ]
    return Table(board.name, tuple(columns), rows, titled=False, sortable=True, row_header=1)


def name(row: Row) -> Text:
    """The student, how it was trained, and whose it is."""
    how = f"{row.model.model}, {row.model.method}"
    how += f", {row.distiller}" if row.distiller else ""
    return Text(f"{row.submission}: {row.student}", below=(how, row.file))


def verdict(row: Row) -> Cell:
    """The state with its notes, and the sentence behind it."""
    if row.verdict is None:
        return Text(DASH, about=row.sentence)
    notes = tuple(note.replace("_", " ") for note in row.notes)
    return Text(row.verdict.replace("_", " "), row.verdict, about=row.sentence, below=notes)


def refusal(file: str, problems: Sequence[Problem]) -> tuple[str, ...]:
    """A bundle that is on no board, and why."""
    more = f" and {len(problems) - 1:,} more" if len(problems) > 1 else ""
    return file, ": ", str(problems[0]), more


def explanation(boards: Sequence[Board], rule: VerdictRule) -> Iterator[tuple[str, str]]:
    """How the tables are read."""
    yield (
        "rank",
        f"1{DASH}3 means: first, second and third cannot be told apart from here. One is ranked "
        "above another only if its whole 95% interval is.",
    )
    yield "no rank", f"fewer than {rule.min_seeds} seeds: one training says little about the next."
    yield "interval", "95%, over seeds and, within groups or clusters, examples (docs/verdicts.md)."
    yield "numbers", "percent; differences in points, bold where the interval leaves 0 out."
    columns = [measure.column for board in boards for measure in measures(board)]
    yield from {column.title: column.about for column in columns}.items()
    yield (
        "debiasing",
        "kept: neither the size of the gap grows nor worst-group accuracy falls by more than the "
        "margin, from teacher to student, as bounds of 97.5% show; lost: one of them does; nothing "
        "to keep: the teacher is not shown to be better than without debiasing; undecided: not "
        f"shown either way, or fewer than {rule.min_seeds} seeds. All by one margin, "
        f"{100 * rule.margin:g} points, whatever a submission was made with (docs/verdicts.md). "
        "Below it: reversed, the gap is lost and has turned over; no reference, without an ERM "
        "teacher, so that a gain of the teacher is not shown; one class, a model answers nearly "
        "all rows alike.",
    )
    yield (
        "one board",
        "students meet only on the same rows of the same data, with the same rule for labels that "
        "differ and the same smallest group that may be the worst.",
    )
