"""From tables to the splits of the task, and the row counts that HANS is known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness_plugin.data.dataset import Split, TaskData
from harness_plugin_tasks._shared.files import count_variants, row_variant
from harness_plugin_tasks._shared.text.nli_hub import Training
from harness_plugin_tasks._shared.text.splits import empty_cells, joined
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.hans.evaluation import released_split

HANS_ROWS = 30_000
HANS_GROUP_ROWS = 5_000


def task_data(
    source: str, *, training: Training, hans: Table, options: Mapping[str, Any]
) -> TaskData:
    """The splits `train`, those in domain (the first is the reference of gaps) and `hans`.

    Notes on the training data come first among the notes; empty cells and a HANS of
    another size follow. Raises HarnessError as `make_split` does.
    """
    splits = [joined("train", "train", training.train)] if training.train else []
    splits += [joined(name, "in_domain", tables) for name, tables in training.in_domain.items()]
    empty = [note for split in splits for note in empty_cells(split)]
    by = "template" if options["cluster"] == "auto" else options["cluster"]
    test = released_split(hans.columns, by, options["collapse"], hans.where)
    return TaskData(
        "hans",
        source,
        {split.name: split for split in (*splits, test)},
        (*training.notes, *empty, *variants(test, hans)),
    )


def variants(test: Split, hans: Table) -> Iterator[str]:
    """A note if HANS has not as many rows as released, or a group has not, if the whole has."""
    if hans.labelled != HANS_ROWS:
        yield from row_variant(hans.where, hans.labelled, HANS_ROWS)
        return
    expected = [HANS_GROUP_ROWS] * len(test.groups)
    yield from count_variants("hans", test.group_counts, expected, test.groups)
