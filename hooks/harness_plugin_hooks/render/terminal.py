"""A document on a terminal, as what rich prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness_plugin_hooks.render.document import (
    Block,
    Folded,
    Inline,
    Items,
    Paragraph,
    Section,
    Table,
    Text,
    numeric,
    texts,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text as Line

COLOURS = {
    **dict.fromkeys(("kept", "pass"), "green"),
    **dict.fromkeys(("lost", "regressed"), "red"),
    "undecided": "yellow",
}


def terminal(block: Block) -> Iterator[RenderableType]:
    """What a console prints of one block; folded blocks are shown."""
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
        cells = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in row)
        grid.add_row(*(Line(cell.text, style=COLOURS.get(cell.style, "")) for cell in cells))
    return grid


def inline(line: Inline) -> Line:
    """Texts on one line, verdicts in their colour."""
    from rich.text import Text as Line

    out = Line()
    for part in texts(line):
        colour = COLOURS.get(part.style)
        out.append(part.text.upper() if colour else part.text, f"bold {colour}" if colour else "")
    return out
