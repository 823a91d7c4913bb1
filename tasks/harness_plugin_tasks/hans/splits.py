"""From tables to the splits of the task, and the row counts that the releases are known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness_plugin.data import Role, Split, TaskData
from harness_plugin_tasks.hans import nli
from harness_plugin_tasks.hans.tables import Table

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
    "heuristics_evaluation_set": 30_000,
}
"""Labelled rows of every file, by the name of its table."""

HANS_GROUP_ROWS = 5_000


def task_data(
    source: str,
    *,
    train: Sequence[Table],
    in_domain: Mapping[str, Sequence[Table]],
    hans: Table,
    collapse_rule: str,
    notes: Sequence[str] = (),
) -> TaskData:
    """The splits `train`, those of `in_domain` (the first is the reference of gaps) and `hans`.

    `notes` come first among the notes; empty cells and a HANS of another size follow.
    Raises HarnessError as `make_split` does.
    """
    splits = [joined("train", "train", train)]
    splits += [joined(name, "in_domain", tables) for name, tables in in_domain.items()]
    empty = [note for split in splits for note in empty_cells(split)]
    columns = hans.columns
    test = nli.hans_split(
        premises=columns["premise"],
        hypotheses=columns["hypothesis"],
        ids=columns["id"],
        label_texts=columns["label"],
        heuristics=columns["heuristic"],
        subcases=columns["subcase"],
        three_way=True,
        collapse_rule=collapse_rule,
        where=hans.where,
    )
    return TaskData(
        "hans",
        source,
        {split.name: split for split in (*splits, test)},
        (*notes, *empty, *variant(hans), *hans_variants(test)),
    )


def joined(name: str, role: Role, tables: Sequence[Table]) -> Split:
    """One split of all rows of `tables`, in their order."""

    def column(key: str) -> list[str]:
        return [value for table in tables for value in table.columns[key]]

    return nli.nli_split(
        name,
        role=role,
        premises=column("premise"),
        hypotheses=column("hypothesis"),
        ids=column("id"),
        label_texts=column("label"),
        labels=nli.NLI_LABELS,
        where=", ".join(table.where for table in tables),
    )


def empty_cells(split: Split) -> Iterator[str]:
    """A note if `split` lacks a cell of label x overlap, which is then none of its groups."""
    cells = (f"{label}/{cue}" for label in nli.NLI_LABELS for cue in (nli.OVERLAP, nli.NO_OVERLAP))
    if missing := [cell for cell in cells if cell not in split.groups]:
        yield f"{split.name}: no row of {', '.join(missing)}; left out of its groups"


def variant(table: Table) -> Iterator[str]:
    """A note if `table` is a released file by its name, but not by its number of rows."""
    expected = RELEASED_ROWS.get(table.name)
    if expected is not None and table.labelled != expected:
        yield f"variant: {table.where} has {table.labelled:,} rows, expected {expected:,}"


def hans_variants(hans: Split) -> Iterator[str]:
    """A note for every group that is not as large as released, if the set as a whole is."""
    if len(hans) == RELEASED_ROWS["heuristics_evaluation_set"]:
        for group, rows in zip(hans.groups, hans.group_counts, strict=True):
            if rows != HANS_GROUP_ROWS:
                yield f"variant: hans has {rows:,} rows of {group}, expected {HANS_GROUP_ROWS:,}"
