"""A document on a terminal, as what rich prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness_plugin_hooks.render.document import (
    Block,
    Cell,
    Folded,
    Inline,
    Items,
    Number,
    Paragraph,
    Section,
    Table,
    Text,
    numeric,
    texts,
)
from harness_plugin_hooks.render.text import estimate, interval, ranks

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text as Line

COLOURS = {
    **dict.fromkeys(("kept", "pass"), "green"),
    **dict.fromkeys(("lost", "regressed"), "red"),
    "undecided": "yellow",
    "nothing_to_keep": "blue",
}


def terminal(block: Block) -> Iterator[RenderableType]:
    """The console's view of one block; folded blocks are shown."""
    from rich.text import Text as Line

    match block:
        case Section():
            yield from ("", Line(block.title, style="bold"))
            for part in block.blocks:
                yield from terminal(part)
        case Folded():
            for part in block.blocks:
                yield from terminal(part)
        case Table():
            yield table(block)
        case Paragraph():
            yield inline(block.text)
        case Items():
            yield from map(inline, block.items)
        case _:
            raise NotImplementedError(f"{type(block).__name__} has no form on a terminal yet")


def table(block: Table) -> RenderableType:
    """A table of texts under its title."""
    from rich.table import Table as Grid
    from rich.text import Text as Line

    grid = Grid(title=Line(block.title), title_justify="left")
    for column, number in zip(block.columns, numeric(block), strict=True):
        grid.add_column(column.title, justify="right" if number else "left", overflow="fold")
    for row in block.rows:
        grid.add_row(*map(cell, row))
    return grid


def cell(value: Cell) -> Line:
    """A cell's text, verdicts in their colour."""
    from rich.text import Text as Line

    match value:
        case None:
            return Line()
        case Text():
            return Line("\n".join((value.text, *value.below)), COLOURS.get(value.style, ""))
        case Number():
            return Line(estimate(value) + interval(value, " ({} to {})"))
        case str():
            return Line(value)
        case int():
            return Line(f"{value:,}")
    return Line(ranks(value))


def inline(line: Inline) -> Line:
    """Texts on one line, verdicts in their colour."""
    from rich.text import Text as Line

    out = Line()
    for part in texts(line):
        colour = COLOURS.get(part.style)
        out.append(part.text.upper() if colour else part.text, f"bold {colour}" if colour else "")
    return out
