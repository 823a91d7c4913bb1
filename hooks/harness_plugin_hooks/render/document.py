"""A document's content, without its form: records that every writer understands.

Texts are data: a writer escapes all of them, so that a name, a note or an example holding markup is
shown and does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

State: TypeAlias = Literal["kept", "lost", "nothing_to_keep", "undecided", "pass", "regressed"]
Style: TypeAlias = Literal["", "soft", "strong", "code", "badge"] | State
Rank: TypeAlias = tuple[int, int]
"""Best and worst rank that the intervals allow."""


@dataclass(frozen=True)
class Text:
    """Words in one style; the words of a verdict take its name as their style."""

    text: str
    style: Style = ""
    about: str = ""
    """Text of the tooltip."""
    target: str = ""
    """Where it links to: "#ANCHOR" or a file beside the document."""
    below: tuple[str, ...] = ()
    """In a cell: less important lines below it."""


Inline: TypeAlias = "str | Text | Sequence[str | Text]"
"""One or several texts in a row."""


class Estimated(Protocol):
    """A number of a record, None where it is undefined."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Number:
    """A fraction, shown in percent, with its interval; NaN where undefined."""

    value: float
    low: float = math.nan
    high: float = math.nan
    signed: bool = False
    """Whether it is a difference, written with its sign."""
    reason: str = ""
    """Why there is no value or no interval."""
    marked: bool = False
    """Whether it is an effect that many comparisons leave standing."""

    @classmethod
    def of(cls, number: Estimated | None, signed: bool = False) -> Number:
        """A number of a record."""
        if number is None or number.value is None:
            return cls(math.nan, reason=number.reason if number else "")
        low, high = (math.nan if end is None else end for end in (number.low, number.high))
        return cls(number.value, low, high, signed, number.reason)

    @property
    def clear(self) -> bool:
        """Whether the interval of a difference leaves 0 out."""
        return self.signed and (self.low > 0 or self.high < 0)


Cell: TypeAlias = "str | int | Number | Rank | Text | None"


@dataclass(frozen=True)
class Column:
    """A column's title, what it means, and how it is shown."""

    title: str
    about: str = ""
    first: Literal["ascending", "descending"] = "ascending"
    """The order of a sortable table after the first click."""
    drawn: bool = False
    """Whether intervals are drawn."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    titled: bool = True
    """Whether the title is a heading; otherwise only assistive software reads it."""
    heat: bool = False
    """Whether numbers are coloured by their size, on either side of 0."""
    sortable: bool = False
    """Whether a reader may sort the rows; they are in order of the first column."""
    row_header: int | None = None
    """The column that names each row."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `answer` is the one that a document is read for."""

    text: Inline
    style: Literal["", "soft", "answer"] = ""


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[Inline]


@dataclass(frozen=True)
class Terms:
    """Terms and what they mean."""

    terms: Sequence[tuple[str, Inline]]


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they are."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, what to see in it, and the numbers behind it where no other table has them."""

    title: str
    svg: str
    file: str
    """Its file beside the document; unique in a document."""
    about: str = ""
    table: Table | None = None
    theme: Mapping[str, str] = field(default_factory=dict)
    """Colours of the drawing that follow the page's theme, with the names of the page's."""
    caption: str = ""
    """Caption: a sentence with the figure's number."""


@dataclass(frozen=True)
class Card:
    """One example: an image or texts, and what it is filtered and sorted by."""

    id: str
    filters: Mapping[str, str]
    distance: float
    blocks: tuple[Block, ...]
    image: str = ""
    """A data URI."""
    image_about: str = ""


@dataclass(frozen=True)
class Cards:
    """Examples that a reader may filter and sort."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when their title is clicked."""

    title: str
    blocks: Sequence[Block]
    opened: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    anchor: str
    blocks: Sequence[Block]
    contents: str = ""
    """The name of the list of its sections; none without it."""
    listed_as: str = ""
    """Text behind the title in the list of sections."""
    badge: str = ""


Block: TypeAlias = "Paragraph | Items | Terms | Code | Table | Figure | Cards | Folded | Section"


@dataclass(frozen=True)
class Document:
    """A title, what stands before the sections, the sections, and a last line."""

    title: str
    introduction: Sequence[Block]
    sections: Sequence[Section]
    footer: Inline
    contents: str = ""
    """The name of the list of sections; none without it."""
    wide: bool = False
    """Whether its tables need a wide page."""


def tables(blocks: Sequence[Block]) -> Iterator[Table]:
    """The tables of blocks and of the sections among them, in their order."""
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Section):
            yield from tables(block.blocks)


def texts(inline: Inline) -> list[Text]:
    """The texts of a line."""
    parts = [inline] if isinstance(inline, str | Text) else inline
    return [Text(part) if isinstance(part, str) else part for part in parts]


def numeric(table: Table) -> list[bool]:
    """For each column, whether its cells are numbers: they are set right."""
    return [
        any(is_number(row[i]) for row in table.rows)
        and all(is_number(row[i]) or row[i] in ("", None) for row in table.rows)
        for i in range(len(table.columns))
    ]


def is_number(cell: Cell) -> bool:
    """Whether a cell is a number; a text is one that begins with a digit, a sign or a dash."""
    if isinstance(cell, str):
        return cell[:1].isdigit() or cell[:1] in set("+-<.\u2212\u2013") or cell == "n/a"
    return isinstance(cell, int | Number | tuple)
