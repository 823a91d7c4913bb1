"""The loader of tickets.yaml: one function a data source, each DataRequest -> TaskData."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness_plugin.data.dataset import (
    ALIGNED,
    CONFLICTING,
    DataRequest,
    Purpose,
    Split,
    TaskData,
    make_split,
)
from harness_plugin.errors import HarnessError

LABELS = ("routine", "urgent")
PLANS = ("free", "enterprise")
GROUPS = tuple(f"{label}/{plan}" for label in LABELS for plan in PLANS)
COLUMNS = ("id", "text", "urgency", "plan")

URGENT = ("cannot log in", "lost all the files", "see an error on every page")
ROUTINE = ("want a copy of the invoice", "ask how to change the colour", "like the new icons")
VAGUE = ("have a question about the login", "wrote about the files before")
"""What one ticket in four says, urgent or not: there the plan is the only cue."""


def generated(request: DataRequest) -> TaskData:
    """Tickets from two short lists: `train` and `id` follow the bias, `balanced` does not."""
    rate, n = request.options["bias_rate"], request.options["n_train"]
    if not 0.5 <= rate < 1:
        raise HarnessError(f"tickets.bias_rate must lie in [0.5, 1), not {rate!r}.")
    sizes: dict[str, tuple[Purpose, int, float]] = {
        "train": ("train", n, rate),
        "id": ("in_domain", 160, rate),
        "balanced": ("ood", 160, 0.5),
    }
    splits = {}
    for stream, (name, (purpose, rows, agree)) in enumerate(sizes.items()):
        rng = np.random.default_rng([request.seed, stream])
        urgent = np.arange(rows) % 2
        agrees = np.arange(rows) // 2 < round(agree * rows / 2)
        plan = np.where(agrees, urgent, 1 - urgent)
        vague = rng.random(rows) < 0.25
        table = [
            {
                "id": f"{name}-{i}",
                "text": f"ticket {rng.integers(10**6)} from a {PLANS[p]} user : "
                f"we {rng.choice(VAGUE if vague[i] else URGENT if u else ROUTINE)}",
                "urgency": LABELS[u],
                "plan": PLANS[p],
            }
            for i, (u, p) in enumerate(zip(urgent, plan, strict=True))
        ]
        splits[name] = split_of(name, purpose, table, name)
    return TaskData("tickets", request.source, splits)


def from_folder(request: DataRequest) -> TaskData:
    """`train.csv` and `test.csv` in the folder of --data, with the columns `COLUMNS`."""
    folder = request.path
    if folder is None or not folder.is_dir():
        raise HarnessError(f"tickets: {folder} is not a directory.")
    purposes: dict[str, Purpose] = {"train": "train", "test": "in_domain"}
    splits = {
        name: split_of(name, purpose, read(folder / f"{name}.csv"), str(folder / f"{name}.csv"))
        for name, purpose in purposes.items()
    }
    return TaskData("tickets", request.source, splits)


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; HarnessError for a file or a column that is missing."""
    if not file.is_file():
        raise HarnessError(f"{file}: no such file; expected train.csv and test.csv.")
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise HarnessError(f"{file}:1: column {', '.join(missing)} is missing.")
        return list(reader)


def split_of(name: str, purpose: Purpose, table: list[dict[str, str]], where: str) -> Split:
    """A checked split of the rows of `table`; `make_split` names the first bad row."""
    return make_split(
        name,
        purpose=purpose,
        inputs={"text": [row["text"] for row in table]},
        ids=[row["id"] for row in table],
        label_texts=[row["urgency"] for row in table],
        labels=LABELS,
        attributes=[row["plan"] for row in table],
        group_texts=[f"{row['urgency']}/{row['plan']}" if row["urgency"] else "" for row in table],
        groups=GROUPS,
        aligned=[
            ALIGNED
            if (row["urgency"] == "urgent") == (row["plan"] == "enterprise")
            else CONFLICTING
            for row in table
        ],
        breakdowns={"plan": [row["plan"] for row in table]},
        where=where,
    )


def plan_feature(split: Split) -> NDArray[np.float64]:
    """(N, 1) what a bias-only model sees: the plan, and nothing else."""
    plan = np.asarray(split.column("attribute"), dtype=np.str_)
    feature: NDArray[np.float64] = (plan == "enterprise").astype(np.float64)[:, None]
    return feature
