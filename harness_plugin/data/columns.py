"""Columns of texts as Arrow arrays: millions of rows are bytes there, and objects in Python."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError

Column: TypeAlias = "pa.ChunkedArray"
Ints: TypeAlias = NDArray[np.int64]

CHUNK = 65_536


def text_column(values: Sequence[Any] | Column, name: str, where: str) -> Column:
    """(N,) every value as text.

    Raises HarnessError naming row and column for a text that no file can hold (half a character).
    """
    if isinstance(values, pa.ChunkedArray) and pa.types.is_string(values.type):
        return values
    try:
        try:
            column = pa.array(values, pa.string())
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            column = None
        if column is None or (isinstance(column, pa.Array) and column.null_count):
            column = pa.array([str(value) for value in values], pa.string())
    except UnicodeEncodeError:
        row = next(i for i, value in enumerate(values) if not is_unicode(str(value)))
        raise HarnessError(
            f"{where}: row {row + 1}: {name} holds half a character (a lone surrogate)."
        ) from None
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def gathered(rows: Iterable[Sequence[str | None]], width: int) -> list[Column]:
    """The `width` columns of rows of texts, with few rows as Python objects at a time."""
    chunks: list[list[pa.Array]] = [[] for _ in range(width)]
    stream = iter(rows)
    while some := list(itertools.islice(stream, CHUNK)):
        for chunk, values in zip(chunks, zip(*some, strict=True), strict=True):
            chunk.append(pa.array(values, pa.string()))
    return [pa.chunked_array(chunk, pa.string()) for chunk in chunks]


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON may escape half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def coded(column: Column) -> tuple[Ints, list[str]]:
    """(N,) index of each text among the distinct ones, and these, in the order they come."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = whole.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # more than 2 GB of text
        encoded = encoded.unify_dictionaries()
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
        return codes.astype(np.int64), encoded.chunk(0).dictionary.to_pylist()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def as_numpy(column: Column) -> NDArray[np.str_]:
    """(N,) the texts as NumPy has them, as wide as the longest."""
    out = np.empty(len(column), dtype=f"<U{longest_of(column) or 1}")
    for start in range(0, len(column), CHUNK):  # Python objects of a chunk only
        out[start : start + CHUNK] = column.slice(start, CHUNK).to_numpy()
    return out


def longest_of(column: Column) -> int:
    """The characters of the longest text, 0 without rows."""
    import pyarrow.compute as pc  # 0.2 s, which `harness report` and a leaderboard need not pay

    return int(pc.max(pc.utf8_length(column)).as_py() or 0)


def positions(
    column: Column, names: Sequence[str], what: str, where: str, rows: Ints, *, blank: bool = False
) -> Ints:
    """(N,) index of each text in `names`; with `blank`, -1 for the empty text.

    `rows` (N,) are the numbers, from 0, that messages call the rows by. Raises HarnessError naming
    the first row with another text.
    """
    index = {name: i for i, name in enumerate(names)} | ({"": -1} if blank else {})
    codes, texts = coded(column)
    if strange := [code for code, text in enumerate(texts) if text not in index]:
        first = int(np.isin(codes, strange).argmax())
        raise HarnessError(
            f"{where}: row {rows[first] + 1}: unknown {what} {texts[codes[first]]!r}; expected one "
            f"of {', '.join(names)}."
        )
    return np.array([index[text] for text in texts], dtype=np.int64)[codes]


def is_among(column: Column, texts: Collection[str]) -> NDArray[np.bool_]:
    """(N,) whether a text is one of `texts`."""
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(column, pa.array(sorted(texts), pa.string())).to_numpy(), np.bool_)


def doubled(column: Column) -> tuple[int, int, int] | None:
    """The first row whose text an earlier one has, that one (from 0), and how many texts repeat.

    None where all differ.
    """
    codes, texts = coded(column)
    if len(texts) == len(codes):
        return None
    again = int(np.flatnonzero(codes != np.arange(len(codes)))[0])  # numbered as they come
    return again, int(codes[again]), int((np.bincount(codes) > 1).sum())


def clusters_of(values: Sequence[str] | Column) -> tuple[Ints, tuple[str, ...]]:
    """(N,) index of each row's cluster, -1 for "" (a row that stands alone), and the sorted names.

    The numbers depend on which rows there are, not on their order.
    """
    codes, texts = coded(text_column(values, "cluster", "clusters"))
    names = sorted(text for text in texts if text)
    index = {name: i for i, name in enumerate(names)}
    return np.array([index.get(text, -1) for text in texts], dtype=np.int64)[codes], tuple(names)
