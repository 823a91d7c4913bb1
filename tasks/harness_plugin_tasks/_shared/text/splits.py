"""From tables of pairs to splits, and the row counts that the releases are known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness_plugin.data.dataset import Ints, Purpose, Split, make_split
from harness_plugin_tasks._shared.text.cues import NLI_LABELS, OVERLAP_CUE, Cue
from harness_plugin_tasks._shared.text.tables import Table

RELEASED_ROWS = {
    "multinli_1.0_train": 392_702,
    "multinli_1.0_dev_matched": 9_815,
    "multinli_1.0_dev_mismatched": 9_832,
    "MNLI/train": 392_702,
    "MNLI/dev_matched": 9_815,
    "MNLI/dev_mismatched": 9_832,
    "snli_1.0_train": 549_367,
    "snli_1.0_dev": 9_842,
    "snli_1.0_test": 9_824,
    "snli_1.0_test_hard": 3_261,
}
"""Labelled rows of every file, by the name of its table."""


def table_split(
    name: str,
    *,
    purpose: Purpose,
    table: Table,
    inputs: Sequence[str] = ("premise", "hypothesis"),
    labels: tuple[str, ...] = NLI_LABELS,
    attributes: Sequence[str] | None = None,
    values: Sequence[str] = (),
    aligned: Sequence[int] | Ints | None = None,
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    clusters: Sequence[str] | None = None,
) -> Split:
    """A split whose groups are label x attribute, for attributes out of `values`.

    Groups without a row are left out of `groups`, because their accuracy would be undefined.
    Without `attributes` there are none. Raises HarnessError as `make_split` does.
    """
    columns = table.columns
    group_texts = None
    groups: tuple[str, ...] = ()
    if attributes is not None:
        group_texts = [
            f"{label}/{value}" if label in labels else ""
            for label, value in zip(columns["label"], attributes, strict=True)
        ]
        present = set(group_texts)
        groups = tuple(group for group in cells(labels, values) if group in present)
    return make_split(
        name,
        purpose=purpose,
        inputs={name: columns[name] for name in inputs},
        ids=columns["id"],
        label_texts=columns["label"],
        labels=labels,
        attributes=attributes,
        group_texts=group_texts,
        groups=groups,
        aligned=aligned,
        breakdowns=breakdowns,
        clusters=clusters,
        where=table.where,
    )


def cue_split(
    name: str,
    *,
    purpose: Purpose,
    table: Table,
    cue: Cue,
    labels: tuple[str, ...] = NLI_LABELS,
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    clusters: Sequence[str] | None = None,
) -> Split:
    """The `table_split` whose attribute is whether a pair has `cue`, read off its sentences."""
    columns = table.columns
    pairs = zip(columns["premise"], columns["hypothesis"], strict=True)
    attributes = [cue.of(premise, hypothesis) for premise, hypothesis in pairs]
    return table_split(
        name,
        purpose=purpose,
        table=table,
        labels=labels,
        attributes=attributes,
        values=cue.values,
        aligned=[
            cue.points_to(value, label)
            for value, label in zip(attributes, columns["label"], strict=True)
        ],
        breakdowns=breakdowns,
        clusters=clusters,
    )


def joined(name: str, purpose: Purpose, tables: Sequence[Table], cue: Cue = OVERLAP_CUE) -> Split:
    """One split of all rows of `tables`, in their order, with groups label x `cue`."""
    return cue_split(name, purpose=purpose, table=concatenated(tables), cue=cue)


def concatenated(tables: Sequence[Table]) -> Table:
    """All rows of `tables`, in their order."""
    columns = {
        key: [value for table in tables for value in table.columns[key]]
        for key in tables[0].columns
    }
    names, places = ([getattr(table, key) for table in tables] for key in ("name", "where"))
    return Table(", ".join(names), ", ".join(places), columns)


def cells(labels: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    """The names of all groups label x attribute, label by label."""
    return tuple(f"{label}/{value}" for label in labels for value in values)


def empty_cells(split: Split, values: Sequence[str] = OVERLAP_CUE.values) -> Iterator[str]:
    """A note if `split` lacks a cell of label x attribute, which is then none of its groups."""
    if missing := [cell for cell in cells(split.labels, values) if cell not in split.groups]:
        yield f"{split.name}: no row of {', '.join(missing)}; left out of its groups"
