"""CivilComments as WILDS distributes it: one CSV with all splits, on disk or from the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import DataRequest, Purpose, TaskData
from harness_plugin.data.hub import hub_file, load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import (
    data_folder,
    find,
    hub_copies,
    hub_copy,
    missing,
    row_variant,
)
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks.civilcomments.comments import (
    IDENTITIES,
    Comments,
    comment_split,
    direction,
    grouping,
)

REPOSITORY = "shlomihod/civil-comments-wilds"
REVISION = "3fbfeca80bad0f3aec37e72fa07eff222b6e752f"
FILE = "all_data_with_identities.csv"
SHA256 = "403e638c83a225d738a937ff98b61fd0631e30f710d57928c7766d413526b77f"
ROWS = 448_000

COLUMNS = ("comment_text", "split", "toxicity", *IDENTITIES)
SPLITS: dict[str, tuple[str, Purpose]] = {
    "train": ("train", "train"),
    "val": ("validation", "validation"),
    "test": ("id", "in_domain"),
}
THRESHOLD = 0.5
"""Share of annotators from which on a comment is toxic, or mentions somebody."""

WITHOUT_IDENTITIES = (
    "there are no groups without them. google/civil_comments on the hub has none; WILDS' "
    f"{FILE} has (Koh et al. 2021)."
)


def from_hub(request: DataRequest) -> TaskData:
    """The splits of WILDS from a hub copy of its file, pinned.

    Raises HarnessError when the hub cannot be reached, and as `from_folder` does.
    """
    return from_file(request, hub_file(REPOSITORY, FILE, revision=REVISION))


def from_folder(request: DataRequest) -> TaskData:
    """The splits of WILDS from its file in `request.path` or in a direct subfolder.

    A copy of the hub's repository as parquet or by `save_to_disk` is read as well.

    Raises HarnessError naming the file and row for anything missing or malformed: data without
    the eight identities are refused.
    """
    root = data_folder(request)
    if file := find(root, [FILE]):
        return from_file(request, file)
    if copy := hub_copy(root, {"comment_text", "toxicity", "split"}.issubset):
        import datasets

        rows = datasets.concatenate_datasets([*load_local(copy).values()])
        require_identities(rows.column_names, str(copy))
        columns = rows.select_columns(list(COLUMNS))[:]
        return task_data(request, columns, str(copy), [*row_variant(copy, len(rows), ROWS)])
    if hub_copies(root, {"text", "toxicity"}.issubset):
        raise HarnessError(f"{root}: holds comments without identities, but {WITHOUT_IDENTITIES}")
    raise missing(root, [FILE], ", nor a hub copy of it")


def from_file(request: DataRequest, file: Path) -> TaskData:
    """The splits in the CSV of WILDS."""
    with file.open(encoding="utf-8", errors="replace") as text:
        require_identities(text.readline().rstrip("\r\n").split(","), str(file))
    columns = read_quoted(file, COLUMNS, delimiter=",")
    notes = [*row_variant(file, len(columns["split"]), ROWS)]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        notes.append(f"variant: {file} has SHA-256 {digest[:16]}…, expected {SHA256[:16]}…")
    return task_data(request, columns, str(file), notes)


def require_identities(names: Sequence[str], where: str) -> None:
    """Refuse columns among which one of the eight identities is missing."""
    if absent := [name for name in IDENTITIES if name not in names]:
        raise HarnessError(
            f"{where}: no column {', '.join(absent)} for identities, but {WITHOUT_IDENTITIES}"
        )


def task_data(
    request: DataRequest, columns: Mapping[str, Sequence[object]], where: str, notes: Sequence[str]
) -> TaskData:
    """The splits `train`, `validation` and `id` that the column `split` names."""
    chosen = grouping(request)
    part = np.asarray(columns["split"], dtype=np.str_)
    if len(odd := np.flatnonzero(~np.isin(part, [*SPLITS]))):
        row = int(odd[0])
        raise HarnessError(
            f"{where}: row {row + 1}: split is {str(part[row])!r}; expected {', '.join(SPLITS)}."
        )
    toxic = shares(columns["toxicity"], "toxicity", where) >= THRESHOLD
    mentioned = np.column_stack(
        [shares(columns[name], name, where) >= THRESHOLD for name in IDENTITIES]
    )
    texts = columns["comment_text"]
    parts: dict[str, Comments] = {}
    for name in SPLITS:
        rows = np.flatnonzero(part == name)
        if not len(rows):
            raise HarnessError(f"{where}: no row of split {name}.")
        parts[name] = Comments(
            [str(texts[row]) for row in rows.tolist()],
            [f"{row:06d}" for row in rows],
            toxic[rows],
            mentioned[rows],
        )
    points_to = direction(parts["train"], chosen)
    splits = [
        comment_split(name, purpose, parts[stored], chosen, points_to, f"{where}, split {stored!r}")
        for stored, (name, purpose) in SPLITS.items()
    ]
    return TaskData("civilcomments", request.source, {s.name: s for s in splits}, tuple(notes))


def shares(values: Sequence[object], name: str, where: str) -> NDArray[np.float64]:
    """(N,) shares of annotators, in [0, 1]. Raises HarnessError naming the first bad row."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except ValueError:
        numbers = np.array([number(value) for value in values])
    if len(odd := np.flatnonzero(~((numbers >= 0) & (numbers <= 1)))):
        row = int(odd[0])
        raise HarnessError(
            f"{where}: row {row + 1}: {name} is {values[row]!r}; expected a share from 0 to 1."
        )
    return numbers


def number(value: object) -> float:
    """`value` as a number, nan if it is none."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
