"""Tables whose names and numbers are never cut, and styled lines."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 80
"""Columns that are counted on where standard output is no terminal."""


def beside_bars() -> AbstractContextManager[None]:
    """Bars make room for what is printed inside. Before tqdm is imported there are none."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    mode: AbstractContextManager[None] = sys.modules["tqdm"].tqdm.external_write_mode()
    return mode


def say_styled(text: str, style: str) -> None:
    """One line in a colour (rich style), where standard output is a terminal."""
    from rich.console import Console

    with beside_bars():
        Console().print(text, style=style, soft_wrap=True, highlight=False, markup=False)


def show_table(table: Table) -> None:
    """Print a table as wide as its cells ask for: no word of it is cut or broken.

    On a narrower terminal it is the terminal that wraps the rows.
    """
    from rich.console import Console
    from rich.measure import Measurement

    for column in table.columns:
        column.no_wrap = True
    console = Console()
    unbounded = console.options.update(width=10_000)
    needed = Measurement.get(console, unbounded, table).maximum
    narrow = console.width if console.is_terminal else WIDTH
    with beside_bars():
        Console(width=max(narrow, needed)).print(table, soft_wrap=False)
