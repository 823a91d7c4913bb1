"""What README, docs/demo.md and docs/findings.md say of a table's rows is what the tables say.

A sentence that states a verdict, or that a change is or is not shown, stands behind a mark which
names the rows and their state; the state is read out of the table above:

    <!-- state: lost; student_ce on hans -->    as a run printed it: LOST student_ce on hans
    <!-- state: above 0; hans, hans / student_ce; gap widening -->    every row with these cells
    <!-- no state: why nothing above shows what follows -->

A mark reaches to the next one, or to the end of its paragraph; marks side by side share a sentence.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"<!-- (?P<kind>state|no state): (?P<text>[^>]*?) -->\s*")
PRINTED = re.compile(r"^(KEPT|LOST|UNDECIDED|NOTHING TO KEEP)\s+(\S+) on (\S+?):", re.M)
INTERVAL = re.compile(
    r"(?P<bold>\*\*)?[+\u2212-]?[\d.]+†?(?:\*\*)?†? \[(?P<low>[^,]+), (?P<high>[^\]]+)\]"
)
WORDS = {
    "kept": r"\bke(ep|eps|pt)\b",
    "lost": r"\blos(e|es|t)\b",
    "undecided": r"\bundecided\b|\bnot tell\b",
    "nothing_to_keep": r"\bnothing to keep\b",
    "above 0": r"\bwiden|\bwider|\blos(e|es|t)\b|\bclear of 0\b|\babove\b|\blifts?\b|\brises?\b",
    "below 0": r"\bnarrow|\bbelow\b|\bbrings? .*back\b|\blower\b|\bless\b",
    "holds 0": r"\bke(ep|eps|pt)\b|\bwithin\b|\bnot\b|\bnothing\b|\bhardly\b|\bholds? 0\b"
    r"|\bno(ne|r)?\b|\bneither\b|\bwithout\b",
}
"""What a sentence of a state has to say."""
OTHERWISE = {
    **{s: [o for o in ("kept", "lost", "undecided") if o != s] for s in list(WORDS)[:4]},
    "above 0": ["kept"],
    "below 0": ["lost", "kept"],
    "holds 0": [],
}
"""States whose words it must not have."""
VERDICT = re.compile(r"\b(keeps|kept|widens|narrows|undecided|loses?)\b", re.I)
PAGES = ("README.md", "docs/demo.md", "docs/findings.md", "docs/findings_real.md")


def paragraphs(page: str) -> list[tuple[int, str]]:
    """Where each paragraph or item begins, and its text; no tables, code or headings."""
    result = []
    prose = re.sub(r"(?ms)^```.*?^```", lambda code: re.sub(r"[^\n]", " ", code[0]), page)
    for match in re.finditer(r"(?:^(?!\s*$).*\n?)+", prose, re.M):
        block = match[0]
        if block.startswith(("|", "#")):
            continue
        start = match.start()
        for part in re.split(r"(?m)^(?=- )", block):
            result.append((start, part))
            start += len(part)
    return result


def spans(paragraph: str) -> list[tuple[list[re.Match[str]], str]]:
    """The marks of a paragraph and the text that each reaches to; first, what is not marked."""
    out: list[tuple[list[re.Match[str]], str]] = [([], "")]
    at = 0
    for mark in MARK.finditer(paragraph):
        text = paragraph[at : mark.start()]
        if text.strip() or not out[-1][0]:
            out[-1] = (out[-1][0], out[-1][1] + text)
            out.append(([mark], ""))
        else:
            out[-1][0].append(mark)
        at = mark.end()
    out[-1] = (out[-1][0], out[-1][1] + paragraph[at:])
    return out


def tables_above(page: str, position: int) -> list[list[dict[str, str]]]:
    """The tables of the last filled block above a position; a row maps titles to cells."""
    before = page[:position]
    block = before[before.rfind("<!-- study ") :]
    out = []
    for table in re.findall(r"(?:^\|.*\n)+", block, re.M):
        rows = [
            [cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()
        ]
        rows = [[cell.strip("| ") for cell in row] for row in rows]
        out.append([dict(zip(rows[0], row, strict=False)) for row in rows[2:]])
    return out


def state_of(cell: str) -> str:
    """What an interval shows: bold where it leaves 0 out."""
    result = INTERVAL.search(cell)
    assert result, f"no interval: {cell!r}"
    if not result["bold"]:
        return "holds 0"
    return "above 0" if not result["low"].startswith(("\u2212", "-")) else "below 0"


def states(page: str, position: int, words: list[str]) -> set[str]:
    """The states of what a mark names, read out of what stands above it."""
    if len(words) == 1:
        printed = {
            f"{who} on {where}": state for state, who, where in PRINTED.findall(page[:position])
        }
        assert words[0] in printed, f"no verdict is printed on {words[0]}: {printed}"
        return {printed[words[0]].lower().replace(" ", "_")}
    cells, column = words[0].split(" / "), words[1]
    rows = [
        row
        for table in tables_above(page, position)
        for row in table
        if column in row and all(cell in row.values() for cell in cells)
    ]
    assert rows, f"no row {words[0]} with {column}"
    return {state_of(row[column]) for row in rows}


def marked(page: str) -> list[tuple[int, str, list[str], str]]:
    """Every mark: position, state, what it names, the sentence behind it."""
    return [
        (start, *(words := [w.strip() for w in mark["text"].split(";")])[:1], words[1:], text)
        for start, paragraph in paragraphs(page)
        for marks, text in spans(paragraph)
        for mark in marks
        if mark["kind"] == "state"
    ]


CASES = [
    pytest.param(page, *case, id=f"{page}: {case[1]}; {'; '.join(case[2])}")
    for page in PAGES
    for case in marked((ROOT / page).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "position", "state", "names", "sentence"), CASES)
def test_a_sentence_says_what_its_table_says(page, position, state, names, sentence):
    assert states((ROOT / page).read_text(encoding="utf-8"), position, names) == {state}
    assert re.search(WORDS[state], sentence, re.I | re.S), (state, sentence)
    for other in OTHERWISE[state]:
        assert not re.search(WORDS[other], sentence, re.I), (state, other, sentence)


@pytest.mark.parametrize("page", PAGES)
def test_no_verdict_is_stated_without_a_mark(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    first = text.find("<!-- study ") if "<!-- study " in text else text.find("make demo")
    end = text.find("\n## ", first) if page == "README.md" else len(text)
    for start, paragraph in paragraphs(text):
        if first < start < end:
            for marks, answers in spans(paragraph):
                assert marks or not VERDICT.search(answers), answers


MADE = """
<!-- study s: x -->

| set | role | gap widening |
|---|---|--:|
| faces | student | +1.0 [\u22120.2, +2.2] |
| faces | student_ce | **+9.0**† [+7.0, +11.0] |

- {mark}The gap {verb}.
"""


@pytest.mark.parametrize(
    ("mark", "verb", "fits"),
    [
        ("above 0; faces / student_ce; gap widening", "widens", True),
        ("above 0; faces / student_ce; gap widening", "is kept", False),
        ("holds 0; faces / student; gap widening", "is kept", True),
        ("above 0; faces / student; gap widening", "widens", False),  # the table says otherwise
        ("above 0; faces; gap widening", "widens", False),  # not of both rows
    ],
)
def test_a_sentence_that_says_otherwise_is_seen(mark, verb, fits):
    page = MADE.format(mark=f"<!-- state: {mark} -->", verb=verb)
    ((position, state, names, sentence),) = marked(page)
    agrees = states(page, position, names) == {state}
    worded = bool(re.search(WORDS[state], sentence)) and not any(
        re.search(WORDS[other], sentence) for other in OTHERWISE[state]
    )
    assert (agrees and worded) == fits
    printed = "```text\nLOST a on hans: more.\n```\n\n<!-- state: kept; a on hans -->It keeps it.\n"
    ((position, state, names, _),) = marked(printed)
    assert states(printed, position, names) == {"lost"} != {state}
