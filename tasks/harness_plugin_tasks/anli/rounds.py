"""The rounds of ANLI, read from the release and from the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import find, require, require_splits
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.tables import (
    Column,
    Table,
    checked,
    hub_columns,
    read_columns,
)

if TYPE_CHECKING:
    import datasets

Reader: TypeAlias = Callable[[str, int], Table]
"""(part, round) -> its rows; a part is train, dev or test."""

ROUNDS = (1, 2, 3)
ROWS = {
    **{"R1/train": 16_946, "R2/train": 45_460, "R3/train": 100_459},
    **{"R1/dev": 1_000, "R2/dev": 1_000, "R3/dev": 1_200},
    **{"R1/test": 1_000, "R2/test": 1_000, "R3/test": 1_200},
}
"""Released rows by the name of the table, `<round>/<part>`."""
COLUMNS = (
    Column("premise", ("context", "premise")),
    Column("hypothesis", ("hypothesis",)),
    Column("label", ("label",)),
    Column("id", ("uid",)),
)
WORDS = {label[0]: label for label in NLI_LABELS}


def released(root: Path) -> Reader | None:
    """A reader of R1/ to R3/ in `root` or in a direct subfolder; None without any test set."""

    def read(part: str, number: int) -> Table:
        name = f"R{number}/{part}.jsonl"
        file = require(root, [name], "; anli.rounds chooses other rounds")
        columns = read_columns(file, COLUMNS)
        columns["label"] = [WORDS.get(label, label) for label in columns["label"]]
        return round_table(part, number, str(file), columns)

    there = any(find(root, [f"R{number}/test.jsonl"]) for number in ROUNDS)
    return read if there else None


def from_splits(loaded: datasets.DatasetDict, where: str) -> Reader:
    """A reader of the hub's layout: splits train_r1 … test_r3."""

    def read(part: str, number: int) -> Table:
        split = f"{part}_r{number}"
        require_splits(loaded, [split], where)
        place = f"{where}, split {split!r}"
        return round_table(part, number, place, hub_columns(loaded[split], COLUMNS, place))

    return read


def round_table(part: str, number: int, where: str, columns: dict[str, list[str]]) -> Table:
    """A checked table; HarnessError naming the row of an unknown label or of a uid used twice."""
    first: dict[str, int] = {}
    for row, uid in enumerate(columns["id"], 1):
        if (before := first.setdefault(uid, row)) != row:
            raise HarnessError(f"{where}: row {row}: uid {uid!r} was already used in row {before}.")
    columns["id"] = [f"R{number}/{part}:{uid}" for uid in columns["id"]]
    return checked(Table(f"R{number}/{part}", where, columns), NLI_LABELS)
