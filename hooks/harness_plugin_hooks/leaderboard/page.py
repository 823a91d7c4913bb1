"""The leaderboard as one HTML file that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from harness_plugin import __version__
from harness_plugin.scoring.transfer_record import Number
from harness_plugin_hooks.html import Page
from harness_plugin_hooks.leaderboard.board import Board, Row
from harness_plugin_hooks.leaderboard.bundle import Problem

DASH, MINUS = "\u2013", "\u2212"
NONE = DASH
"""What a cell without a number shows."""

WIDTH, HEIGHT = 120, 10
"""Of the drawing of an interval, in pixels."""


@dataclass(frozen=True)
class Column:
    """A column of numbers: what it is called and explained with, and which end is sorted first."""

    key: str
    title: str
    about: str
    signed: bool = False
    first: str = "descending"


def columns_of(board: Board) -> list[Column]:
    """The columns of numbers that any row of the board has."""
    metric, gap = board.metric, board.gap
    wanted = [
        Column(metric, spoken(metric), "what the rank is about, with its 95% interval"),
        Column("acc", "accuracy", "share of correct rows"),
        Column(
            gap,
            spoken(gap),
            "the gap this set's story is told with; 0 treats both sides alike",
            signed=True,
            first="ascending",
        ),
        Column(f"teacher_{metric}", f"teacher's {spoken(metric)}", "of the model it learned from"),
        Column(
            "distillability",
            "distillability",
            f"{spoken(metric)} of the student minus its teacher's",
            signed=True,
        ),
        Column(
            "contribution",
            "contribution",
            f"{spoken(metric)} of the student minus its twin's that had no teacher",
            signed=True,
        ),
        Column(
            "gap_widening",
            "gap widening",
            f"{spoken(gap)} of the student minus its teacher's; below 0 is narrower",
            signed=True,
            first="ascending",
        ),
        Column(
            "retention",
            "retention",
            f"share of the teacher's gain in {spoken(metric)} over ERM that the student keeps",
        ),
    ]
    shown = {column.key: column for column in reversed(wanted) if column.key}
    return [
        column
        for column in wanted
        if shown.get(column.key) is column and any(column.key in row.numbers for row in board.rows)
    ]


def spoken(name: str) -> str:
    """A metric's name as words."""
    known = {
        "acc": "accuracy",
        "worst_group_acc": "worst-group accuracy",
        "acc_train_weighted": "accuracy weighted as in training",
        "f1": "F1",
        "ece": "calibration error",
        "gap_id_ood": "in-domain minus OOD gap",
        "gap_aligned_conflicting": "aligned minus conflicting gap",
        "gap_avg_worst": "average minus worst-group gap",
        "gap_entailment": "entailment minus non-entailment gap",
    }
    return known.get(name, name.replace("_", " "))


def page(
    boards: Sequence[Board], refused: Mapping[str, Sequence[Problem]], title: str, min_seeds: int
) -> str:
    """The whole page; `refused` are the bundles left out, by file."""
    made = Page.of(__package__, plain(title))
    body = made.body
    introduction(SubElement(body, "header"), boards, title)
    main = SubElement(body, "main")
    for number, board in enumerate(boards, start=1):
        section(main, board, f"board-{number}")
    if refused:
        refusals(main, refused)
    explanation(main, boards, min_seeds)
    SubElement(body, "p", {"id": "said", "class": "aside", "role": "status"})
    footer = SubElement(SubElement(body, "footer"), "p", {"class": "soft"})
    footer.text = f"Made by harness-plugin {__version__}. The same as data: "
    for name, after in (("leaderboard.json", ", "), ("leaderboard.csv", ".")):
        link(footer, name, name).tail = after
    return made.written()


def introduction(header: Element, boards: Sequence[Board], title: str) -> None:
    """Title, one sentence, and where the boards are."""
    SubElement(header, "h1").text = plain(title)
    SubElement(header, "p").text = (
        "How much of a teacher's debiasing its student keeps. Every number was computed again from "
        "the predictions of the submission."
    )
    if len(boards) > 1:
        navigation = SubElement(header, "nav", {"aria-label": "Boards"})
        items = SubElement(navigation, "ul")
        for number, board in enumerate(boards, start=1):
            item = SubElement(items, "li")
            students = f"{len(board.rows)} student{'s' * (len(board.rows) != 1)}"
            target = link(item, f"#board-{number}", board.name)
            target.tail = f" ({board.record.source} data, {students})"


def section(main: Element, board: Board, anchor: str) -> None:
    """One board: what it is about, and its table."""
    record, known = board.record, board.known
    part = SubElement(main, "section", {"id": anchor, "aria-labelledby": f"{anchor}-title"})
    heading = SubElement(part, "h2", id=f"{anchor}-title")
    SubElement(heading, "bdi").text = plain(board.name)
    kind = "in domain" if known.role == "in_domain" else "out of distribution"
    about = SubElement(part, "p", {"class": "soft"})
    about.text = (
        f"{kind}, {known.rows:,} examples, {len(known.groups)} groups; data source "
        f"{record.source}, fingerprint "
    )
    for text, after in ((record.fingerprint, ", rows "), (known.rows_sha256, ". ")):
        code = SubElement(about, "code", title=plain(text))
        code.text, code.tail = plain(text[:12]), after
    if record.source == "embedded":
        badge = SubElement(about, "strong", {"class": "badge"})
        badge.text = "demonstration: embedded (generated) data"
    scroll = SubElement(
        part,
        "div",
        {
            "class": "scroll",
            "role": "region",
            "tabindex": "0",
            "aria-labelledby": f"{anchor}-title",
        },
    )
    table_of(scroll, board)


def table_of(parent: Element, board: Board) -> None:
    """The table of one board, in order of rank."""
    columns = columns_of(board)
    table = SubElement(parent, "table", {"class": "sortable"})
    SubElement(table, "caption", {"class": "aside"}).text = plain(board.name)
    head = SubElement(SubElement(table, "thead"), "tr")
    for title, about in (
        ("rank", "the ranks that the intervals allow"),
        ("submission", "name, file and student"),
        ("seeds", "trainings"),
    ):
        cell = SubElement(head, "th", scope="col", title=about)
        cell.text = title
        cell.set("data-first", "descending" if title == "seeds" else "ascending")
        if title == "rank":
            cell.set("aria-sort", "ascending")
        if title == "seeds":
            cell.set("class", "number")
    for column in columns:
        cell = SubElement(head, "th", {"scope": "col", "class": "number", "title": column.about})
        cell.set("data-first", column.first)
        cell.text = column.title
    if verdicts := any(row.verdict for row in board.rows):
        cell = SubElement(head, "th", {"scope": "col", "data-first": "ascending"})
        cell.text = "debiasing"
    body = SubElement(table, "tbody")
    scale = scale_of(board)
    for row in board.rows:
        line = SubElement(body, "tr")
        rank_cell(line, row)
        name_cell(line, row)
        seeds = SubElement(line, "td", {"class": "number", "data-value": str(row.seeds)})
        seeds.text = str(row.seeds)
        for column in columns:
            draw = scale if column.key == board.metric else None
            number_cell(line, row.numbers.get(column.key), column.signed, draw)
        if verdicts:
            verdict_cell(line, row)


def rank_cell(line: Element, row: Row) -> None:
    """ "2", "1-3", or why there is none."""
    cell = SubElement(line, "td")
    if row.rank is None:
        cell.text = NONE
        SubElement(cell, "span", {"class": "soft"}).text = plain(row.unranked)
        return
    first, last = row.rank
    cell.set("data-value", str(first + last / 10_000))
    cell.text = str(first) if first == last else f"{first}{DASH}{last}"


def name_cell(line: Element, row: Row) -> None:
    """Submission, model and file; a stranger's text, each isolated in its direction."""
    cell = SubElement(line, "th", {"scope": "row", "data-value": plain(row.submission)})
    SubElement(cell, "bdi").text = plain(row.submission)
    how = f"{row.model.model}, {row.model.method}"
    how += f", {row.distiller}" if row.distiller else ""
    how += "" if row.student == "student" else f" ({row.student})"
    for text in (how, row.file):
        part = SubElement(cell, "span", {"class": "soft"})
        SubElement(part, "bdi").text = plain(text)


def number_cell(
    line: Element,
    number: Number | None,
    signed: bool,
    scale: Callable[[float], float] | None,
) -> None:
    """A number in percent with its interval, drawn where there is a scale."""
    cell = SubElement(line, "td", {"class": "number"})
    if number is None or number.value is None:
        cell.text = NONE
        return
    cell.set("data-value", repr(number.value))
    cell.text = percent(number.value, signed)
    if number.low is None or number.high is None:
        return
    interval = SubElement(cell, "span", {"class": "soft"})
    interval.text = f"{percent(number.low, signed)} to {percent(number.high, signed)}"
    if scale:
        drawing(cell, number.low, number.value, number.high, scale)


def drawing(
    cell: Element, low: float, value: float, high: float, scale: Callable[[float], float]
) -> None:
    """An interval as a line with a dot, where `scale` puts them."""
    svg = SubElement(
        cell, "svg", {"width": str(WIDTH), "height": str(HEIGHT), "aria-hidden": "true"}
    )
    middle = str(HEIGHT / 2)
    whole = {"x1": "0", "x2": str(WIDTH), "y1": middle, "y2": middle, "class": "track"}
    SubElement(svg, "line", whole)
    ends = {"x1": f"{scale(low):.1f}", "x2": f"{scale(high):.1f}"}
    SubElement(svg, "line", {**ends, "y1": middle, "y2": middle})
    SubElement(svg, "circle", {"cx": f"{scale(value):.1f}", "cy": middle, "r": "3.5"})


def scale_of(board: Board) -> Callable[[float], float]:
    """Where on the drawing a value of the ranked metric lies; one scale for the whole board."""
    numbers = [row.numbers[board.metric] for row in board.rows if board.metric in row.numbers]
    ends = [end for n in numbers for end in (n.low, n.value, n.high) if end is not None]
    return scaled(min(ends, default=0.0), max(ends, default=1.0))


def scaled(low: float, high: float) -> Callable[[float], float]:
    """From low … high to where it lies on the drawing."""
    return lambda value: 4 + (WIDTH - 8) * (value - low) / (high - low or 1.0)


def verdict_cell(line: Element, row: Row) -> None:
    """Kept, lost or undecided, and the sentence behind it."""
    cell = SubElement(line, "td", title=plain(row.sentence))
    if row.verdict:
        cell.set("data-value", row.verdict)
        SubElement(cell, "span", {"class": row.verdict}).text = row.verdict
    else:
        cell.text = NONE


def percent(value: float, signed: bool) -> str:
    """A fraction as percent, with a true minus sign and no sign for 0."""
    rounded = round(100 * value, 1) or 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", MINUS)


def refusals(main: Element, refused: Mapping[str, Sequence[Problem]]) -> None:
    """The bundles that are on no board, and why."""
    part = SubElement(main, "section", {"aria-labelledby": "refused-title"})
    SubElement(part, "h2", id="refused-title").text = "Refused"
    items = SubElement(part, "ul")
    for file, problems in refused.items():
        item = SubElement(items, "li")
        SubElement(item, "bdi").text = plain(file)
        item[-1].tail = ": "
        SubElement(item, "bdi").text = plain(str(problems[0]))
        if len(problems) > 1:
            item[-1].tail = f" and {len(problems) - 1:,} more"


def explanation(main: Element, boards: Sequence[Board], min_seeds: int) -> None:
    """How the tables are read."""
    part = SubElement(main, "section", {"aria-labelledby": "how-title"})
    SubElement(part, "h2", id="how-title").text = "How to read the tables"
    terms = SubElement(part, "dl")
    told = {
        "rank": f"1{DASH}3 means: first, second and third cannot be told apart from here. One is "
        "ranked above another only if its whole 95% interval is.",
        "no rank": f"fewer than {min_seeds} seeds: one training says little about the next.",
        "interval": "95%, hierarchical bootstrap over seeds and, within groups, examples.",
        "numbers": "percent; differences in percentage points.",
        **{column.title: column.about for board in boards for column in columns_of(board)},
        "debiasing": "kept: the student's gap is, with 95% confidence, less than 2 points wider "
        "than its teacher's; lost: it is more; undecided: not shown either way.",
        "one board": "students meet only on the same rows of the same data, with the same rule for "
        "labels that differ.",
    }
    for term, meaning in told.items():
        SubElement(terms, "dt").text = term
        SubElement(terms, "dd").text = meaning


def link(parent: Element, target: str, text: str) -> Element:
    """A link within the page or beside it."""
    anchor = SubElement(parent, "a", href=target)
    anchor.text = plain(text)
    return anchor


def plain(text: str, longest: int = 200) -> str:
    """A stranger's text: what cannot be printed becomes a replacement character; not too long."""
    short = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else "�" for c in short)
