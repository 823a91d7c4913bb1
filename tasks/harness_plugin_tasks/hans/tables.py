"""HANS, read from its release and from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin_tasks._shared.text.tables import (
    NLI_COLUMNS,
    Column,
    Table,
    checked,
    hub_columns,
    read_columns,
)
from harness_plugin_tasks.hans.evaluation import HANS_LABELS

if TYPE_CHECKING:
    import datasets

HANS_COLUMNS = (
    *NLI_COLUMNS,
    Column("heuristic", ("heuristic",)),
    Column("subcase", ("subcase",)),
    Column("template", ("template",), required=False),
)


def read_hans(file: Path) -> Table:
    """HANS from its .txt or .jsonl, in the order of the file; ids are the pairIDs.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    return hans_table(str(file), read_columns(file, HANS_COLUMNS))


def hans_from_hub(rows: datasets.Dataset, where: str) -> Table:
    """HANS from rows in the hub's layout. It has no pairID there; row i is the release's "ex{i}".

    Raises HarnessError naming `where` for a missing column: a copy without `heuristic` is refused.
    """
    return hans_table(where, hub_columns(rows, HANS_COLUMNS, where))


def hans_table(where: str, columns: dict[str, list[str]]) -> Table:
    """A checked table of HANS, with ids."""
    if not any(columns["id"]):
        columns["id"] = [f"ex{row}" for row in range(len(columns["label"]))]
    return checked(Table("heuristics_evaluation_set", where, columns), HANS_LABELS)
