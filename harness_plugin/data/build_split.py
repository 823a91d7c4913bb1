"""A split made of columns of plain values: its first bad row is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from harness_plugin.data.columns import Column, doubled, is_among, positions, text_column
from harness_plugin.data.split import UNDEFINED, Ints, Purpose, Split, as_dataset
from harness_plugin.errors import HarnessError

if TYPE_CHECKING:  # a second of imports, which scores of predictions do without
    import datasets

MISSING_LABELS = frozenset({"-", "-1", ""})


def make_split(
    name: str,
    *,
    purpose: Purpose,
    inputs: Mapping[str, Sequence[Any]],
    ids: Sequence[str],
    label_texts: Sequence[Any],
    labels: tuple[str, ...],
    attributes: Sequence[str] | None = None,
    group_texts: Sequence[str] | None = None,
    member_texts: Sequence[Sequence[str]] | None = None,
    groups: tuple[str, ...] = (),
    aligned: Sequence[int] | Ints | None = None,
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    clusters: Sequence[str] | None = None,
    collapse: Mapping[str, str] | None = None,
    collapse_rule: str = "argmax",
    features: Mapping[str, Any] | None = None,
    missing_labels: Collection[str] = MISSING_LABELS,
    where: str = "",
) -> Split:
    """Build a split from columns of plain values, naming the first bad row.

    Rows whose label is one of `missing_labels` ("-", -1, empty) are dropped and counted.
    `member_texts` are the names of all groups of each row, for groups that overlap; it stands in
    the place of `group_texts`. `clusters` names what rows have in common that are not independent:
    a template, a person, a document; "" for a row that stands alone.
    `features` overrides the Arrow type of an input column (images: `datasets.Image()`).

    Raises HarnessError for an unknown label or group, a repeated id, or columns of unequal
    length; the message names `where` (a file), the 1-based row and the value.
    """
    if group_texts is not None and member_texts is not None:
        raise HarnessError(f"{where or name}: give group_texts or member_texts, not both.")
    where, breakdowns, features = where or name, dict(breakdowns or {}), dict(features or {})
    optional = {
        "group": group_texts,
        "attribute": attributes,
        "cluster": clusters,
        "members": member_texts,
        "aligned": aligned,
    }
    columns: dict[str, Any] = {"id": ids, "label": label_texts, **inputs, **breakdowns}
    columns |= {column: values for column, values in optional.items() if values is not None}
    for column, values in columns.items():
        if len(values) != len(ids):
            raise HarnessError(
                f"{where}: column {column!r} has {len(values)} rows, expected {len(ids)}."
            )
    apart = {"members", "aligned", *features}
    texts = {
        column: text_column(values, column, where)
        for column, values in columns.items()
        if column not in apart
    }
    kept = np.flatnonzero(~is_among(texts["label"], missing_labels))
    if not len(kept):
        raise HarnessError(f"{where}: no labelled row (of {len(ids)} read).")
    if len(kept) < len(ids):
        texts = {column: values.take(pa.array(kept)) for column, values in texts.items()}
    if again := doubled(texts["id"]):
        row, first = kept[again[0]], kept[again[1]]
        more = f" ({again[2]:,} ids are doubled)" if again[2] > 1 else ""
        raise HarnessError(
            f"{where}: row {row + 1}: id {str(ids[row])!r} was already used in row "
            f"{first + 1}{more}."
        )
    n = len(kept)
    data: dict[str, Any] = {"id": texts["id"]}
    data |= {
        column: [values[i] for i in kept.tolist()] if column in features else texts[column]
        for column, values in inputs.items()
    }
    data["label"] = positions(texts["label"], labels, "label", where, kept)
    data["group"] = (
        np.full(n, -1)
        if group_texts is None
        else positions(texts["group"], groups, "group", where, kept, blank=True)
    )
    data["attribute"] = texts.get("attribute", pa.repeat(pa.scalar(""), n))
    data["aligned"] = (
        np.full(n, UNDEFINED) if aligned is None else np.asarray(aligned, np.int64)[kept]
    )
    if member_texts is not None:
        data["members"] = member_lists(
            [member_texts[i] for i in kept.tolist()], groups, where, kept
        )
    data |= {column: texts[column] for column in breakdowns}
    if clusters is not None:
        data["cluster"] = texts["cluster"]
    return Split(
        name=name,
        purpose=purpose,
        content=as_content(data, features),
        labels=labels,
        groups=groups,
        breakdowns=tuple(breakdowns),
        collapse=collapse,
        collapse_rule=collapse_rule,
        dropped=len(ids) - n,
    )


def member_lists(
    members: Sequence[Sequence[str]], groups: Sequence[str], where: str, rows: Ints
) -> list[list[int]]:
    """The indices of all groups of each row; HarnessError naming the first unknown one."""
    index = {text: i for i, text in enumerate(groups)}
    for row, names in zip(rows, members, strict=True):
        if strange := [name for name in names if name not in index]:
            raise HarnessError(
                f"{where}: row {row + 1}: unknown group {strange[0]!r}; expected some of "
                f"{', '.join(groups)}."
            )
    return [[index[name] for name in names] for names in members]


def as_content(data: Mapping[str, Any], features: Mapping[str, Any]) -> pa.Table | datasets.Dataset:
    """The columns as rows: texts, integers, and lists of them; `features` are other types."""
    arrays = {
        name: values if isinstance(values, pa.ChunkedArray) else pa.array(values)
        for name, values in data.items()
        if name not in features
    }
    plain = pa.table(arrays, pa.schema([(name, kind_of(arrays[name])) for name in arrays]))
    if not features:
        return plain
    import datasets

    known = datasets.Features.from_arrow_schema(plain.schema)
    types = datasets.Features({name: features.get(name) or known[name] for name in data})
    columns = {
        name: datasets.Dataset.from_dict(
            {name: values}, features=datasets.Features({name: types[name]})
        ).data.column(name)
        if name in features
        else plain.column(name)
        for name, values in data.items()
    }
    return as_dataset(pa.table(columns, types.arrow_schema))


def kind_of(array: pa.Array | Column) -> pa.DataType:
    """The type that a column is stored in."""
    if pa.types.is_list(array.type):
        return pa.list_(pa.int64())
    return pa.int64() if pa.types.is_integer(array.type) else pa.string()
