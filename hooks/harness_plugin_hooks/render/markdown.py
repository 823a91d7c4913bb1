"""A document as GitHub Flavored Markdown; figures are files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from harness_plugin_hooks.render.document import (
    Block,
    Cell,
    Code,
    Document,
    Figure,
    Folded,
    Inline,
    Items,
    Number,
    Paragraph,
    Section,
    Table,
    Terms,
    Text,
    numeric,
    texts,
)
from harness_plugin_hooks.render.text import estimate, interval, ranks


def markdown(document: Document) -> str:
    """The whole document."""
    lines = [f"# {escaped(document.title)}", ""]
    for block in (*document.introduction, *document.sections):
        lines += written(block, 2)
    return "\n".join(lines)


def written(block: Block, level: int) -> Iterator[str]:
    """The lines of one block, the last one empty; `level` is that of a heading in it."""
    match block:
        case Section():
            yield from (f"{'#' * level} {escaped(block.title)}", "")
            for part in block.blocks:
                yield from written(part, level + 1)
        case Folded():
            yield f"<details><summary>{html.escape(' '.join(block.title.split()))}</summary>"
            yield ""
            for part in block.blocks:
                yield from written(part, level)
            yield from ("</details>", "")
        case Table():
            yield from (*table(block, level), "")
        case Paragraph():
            yield from (inline(block.text), "")
        case Items():
            yield from (*(f"- {inline(item)}" for item in block.items), "")
        case Terms():
            yield from (*(f"- **{escaped(t)}**: {inline(text)}" for t, text in block.terms), "")
        case Figure():
            yield from (f"![{escaped(block.title)}]({block.file})", "")
            if block.caption:
                yield from (escaped(block.caption), "")
        case Code():
            longest = max(map(len, re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)
            yield from (f"{fence}{block.language}", *block.text.split("\n"), fence, "")
        case _:
            raise NotImplementedError(f"{type(block).__name__} has no form in Markdown yet")


def table(block: Table, level: int) -> Iterator[str]:
    """The lines of a table below its title and note."""
    if block.title and block.titled:
        yield from (f"{'#' * level} {escaped(block.title)}", "")
    if block.note:
        yield from (escaped(block.note), "")
    yield row([escaped(column.title) for column in block.columns])
    yield f"|{'|'.join('--:' if number else '---' for number in numeric(block))}|"
    for cells in block.rows:
        yield row([cell(one) for one in cells])


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def cell(value: Cell) -> str:
    """A cell's text; a number in bold where the interval of a difference leaves 0 out."""
    match value:
        case None:
            return ""
        case Number():
            shown = f"**{estimate(value)}**" if value.clear else estimate(value)
            return " ".join(filter(None, (shown, interval(value, "[{}, {}]"))))
        case Text():
            return "; ".join(map(escaped, (value.text, *value.below)))
        case str():
            return escaped(value)
        case int():
            return f"{value:,}"
    return ranks(value)


def inline(line: Inline) -> str:
    """Texts on one line; verdicts and strong words in bold."""
    return "".join(
        escaped(part.text) if part.style in ("", "soft") else f"**{escaped(part.text)}**"
        for part in texts(line)
    )


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line: it is no markup and ends no cell.

    An underscore within a word is no emphasis and stays.
    """
    safe = html.escape(re.sub(r"\s+", " ", text), quote=False)
    return re.sub(r"([\\`*{}\[\]|#~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", safe)
