"""The document model: what every writer makes of hostile texts, and numbers by hand."""

import io
import math
import re
from itertools import count
from pathlib import Path

import pytest
from pages import Reader
from rich.console import Console

import harness_plugin_hooks
from harness_plugin_hooks.render.document import (
    Card,
    Cards,
    Code,
    Column,
    Document,
    Figure,
    Folded,
    Items,
    Number,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
    numeric,
    tables,
)
from harness_plugin_hooks.render.html import page
from harness_plugin_hooks.render.markdown import cell, escaped, markdown, written
from harness_plugin_hooks.render.terminal import terminal
from harness_plugin_hooks.render.text import estimate, interval, operations, percent, ranks

HOSTILE = (
    "</style></title></script><script>document.title = 'broken'</script>"
    "<img src=x onerror=\"document.title='broken'\">'\" | `*_a_ [b](javascript:c) \u202e"
)
SVG = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><text>drawn</text></svg>"
THEME = {"#000000": "--text"}


def hostile():
    """A document whose every text is hostile, and the texts that must be shown."""
    number = count()
    shown = []

    def text():
        name = f"{next(number)} {HOSTILE}"
        shown.append(name)
        return name

    table = Table(
        text(),
        (Column(text(), about=HOSTILE), Column("n", drawn=True), Column("rank")),
        [
            (Text(text(), "kept", about=HOSTILE, below=(text(),)), Number(0.5, 0.4, 0.6), (1, 2)),
            (text(), Number(math.nan, reason=text()), None),
        ],
        note=text(),
        sortable=True,
        row_header=0,
    )
    card = Card(
        HOSTILE,
        {HOSTILE: HOSTILE},
        0.5,
        (Paragraph(text()),),
        "data:image/png;base64,",
        HOSTILE,
    )
    section = Section(
        text(),
        HOSTILE,
        [
            Paragraph([text(), Text(text(), "soft"), Text(text(), "lost", about=HOSTILE)]),
            Items([text(), Text(text(), "code")]),
            Terms([(text(), Text(text(), "strong"))]),
            table,
            Folded(text(), [Cards([card, card]), Code(HOSTILE)], opened=True),
            Figure(text(), SVG, "a|b", text(), table, THEME),
            Figure(HOSTILE, SVG, "c"),
            Section(text(), "inner", []),
        ],
        contents=HOSTILE,
        listed_as=text(),
        badge=text(),
    )
    document = Document(text(), [Paragraph(text())], [section], text(), contents=HOSTILE)
    return document, shown


def test_hostile_texts_are_shown_on_a_page_and_are_no_markup():
    document, shown = hostile()
    read = Reader(page(document))
    tags = [tag for tag, _ in read.tags]
    assert (tags.count("script"), tags.count("style"), tags.count("title")) == (1, 1, 2)
    assert tags.count("img") == 3  # two cards, a figure without a theme
    assert not [n for _, a in read.tags for n in a if n.startswith("on") or n == "style"]
    links = [a[n] for _, a in read.tags for n in ("href", "src") if n in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    for text in shown:
        assert text.replace("\u202e", "\ufffd") in read.text.replace("\u202e", "\ufffd")
    assert "\u202e" not in read.text.replace(HOSTILE, "", 1)  # code is shown as it is
    policy = next(a["content"] for _, a in read.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_hostile_texts_execute_nothing_in_a_browser(browser, tmp_path):
    document, _ = hostile()
    file = tmp_path / "page.html"
    file.write_text(page(document), encoding="utf-8")
    browser.open(file)
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [file.as_uri()]
    assert browser.driver.title.startswith(document.title.partition(" ")[0])
    assert HOSTILE.partition(" ")[0] in browser.driver.title
    assert browser.driver.execute_script("return document.scripts.length") == 1
    assert "drawn" in browser.driver.page_source


def test_hostile_texts_are_no_markup_and_end_no_cell_in_markdown():
    document, _ = hostile()
    (section,) = document.sections
    blocks = [b for b in section.blocks if not isinstance(b, Folded)]
    lines = markdown(Document(HOSTILE, document.introduction, [Section("s", "s", blocks)], ""))
    assert not re.search(r"<(?!details|/details|summary|/summary)", lines)
    rows = [line for line in lines.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    folded = markdown(Document("t", [Folded(HOSTILE, [])], [], ""))
    assert "<script" not in folded
    assert "<img" not in folded


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("two\n lines", "two lines"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("group_dro", "group_dro"),
        ("_a_ b__c", r"\_a\_ b\_\_c"),
        ("[x](y) *z* `q` ~s~ #1", r"\[x\](y) \*z\* \`q\` \~s\~ \#1"),
        (" inside ", " inside "),
    ],
)
def test_markdown_shows_a_text_as_it_is(text, written):
    assert escaped(text) == written


def test_code_is_fenced_whatever_it_holds():
    assert list(written(Code("a\n```\nb", "json"), 2)) == [
        "````json",
        "a",
        "```",
        "b",
        "````",
        "",
    ]


def test_hostile_texts_are_printed_on_a_terminal():
    document, _ = hostile()
    (section,) = document.sections
    console = Console(file=io.StringIO(), width=4000)
    odd = [Paragraph("[red]b[/]"), Items([Text("lost", "lost")])]
    blocks = [b for b in section.blocks if isinstance(b, Paragraph | Items | Table)]
    for part in terminal(Section("[bold]t[/]", "t", [*blocks, *odd])):
        console.print(part)
    text = console.file.getvalue()
    assert "[red]b[/]" in text
    assert "[bold]t[/]" in text
    assert "LOST" in text
    assert "(javascript:c)" in text
    assert "50.0 (40.0 to 60.0)" in text
    assert "1\u20132" in text


@pytest.mark.parametrize(
    ("number", "shown", "ends", "in_markdown"),
    [
        (Number(0.5), "50.0", "", "50.0"),
        (Number(-0.0001, signed=True), "0.0", "", "0.0"),
        (Number(0.1, 0.05, 0.15, True), "+10.0", "+5.0 to +15.0", "**+10.0** [+5.0, +15.0]"),
        (
            Number(-0.1, -0.2, 0.1, True, marked=True),
            "\u221210.0\u2020",
            "\u221220.0 to +10.0",
            "\u221210.0\u2020 [\u221220.0, +10.0]",
        ),
        (Number(math.nan, reason="one group"), "\u2013", "", "\u2013"),
    ],
)
def test_numbers_by_hand(number, shown, ends, in_markdown):
    assert (estimate(number), interval(number), cell(number)) == (shown, ends, in_markdown)


def test_ranks_infinity_and_columns_of_numbers():
    assert [ranks((2, 2)), ranks((1, 3))] == ["2", "1\u20133"]
    assert [percent(math.inf, True), percent(-math.inf, True)] == ["\u221e", "\u2212\u221e"]
    rows = [("a", 1, "+0.1", "", (1, 1), "\u2013"), ("1", None, "n/a", "", "", Number(0.1))]
    table = Table("", tuple(map(Column, "abcdef")), rows)
    assert numeric(table) == [False, True, True, False, True, True]
    inner = Section("", "", [table])
    assert list(tables([Section("", "", [table, inner])])) == [table, table]


def test_operations_have_three_digits_and_a_size():
    shown = [operations(count) for count in (4.39e8, 3.1e11, 4.25e12, 6e15, 2e20)]
    assert shown == ["0.439 GFLOP", "310 GFLOP", "4.25 TFLOP", "6 PFLOP", "200 EFLOP"]


def test_undefined_numbers_say_why_below_their_table():
    rows = [(Number(math.nan, reason=f"reason {i}"),) for i in range(8)]
    html = page(Document("t", [Table("x", (Column("acc"),), rows)], [], ""))
    assert "acc: reason 0. acc: reason 1." in html
    assert "and 2 more reasons" in html
    assert "<script" not in html  # nothing to sort or filter


@pytest.mark.parametrize("package", ["report", "study/report", "leaderboard"])
def test_reports_hold_no_markup(package):
    folder = Path(harness_plugin_hooks.__file__).parent / package
    assert {file.suffix for file in folder.iterdir() if file.is_file()} == {".py"}
    for file in folder.glob("*.py"):
        assert not re.search(r"\bxml\.|</\w|<(?:p|span|td|th|tr|div)\b", file.read_text("utf-8"))
