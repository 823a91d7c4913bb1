"""Rows again, rows of the user's own, and rows with another attribute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
from PIL import Image

from harness_plugin.data.dataset import Ints, Split
from harness_plugin.data.task import Task
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.pipeline.roles.augment import additional, changed
from harness_plugin.training.contracts import Augmentation
from harness_plugin.training.inputs.pixels import as_rgb, read_images
from harness_plugin_tasks._shared.own.examine import complete
from harness_plugin_tasks._shared.own.tables import Format, read_columns


class Upsample(Augmentation):
    """Rows of small groups again, until each group has `share` of the largest one's rows.

    Texts are repeated as they are; images are moved by up to `shift` pixels, their edges repeated,
    and mirrored at random with `flip` (not for digits and writing). Labels stay. In distillation
    the teacher answers the changed images anew. Rows of no group are not repeated.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    defaults: ClassVar[Mapping[str, Any]] = {"share": 1.0, "shift": 2, "flip": False}

    @classmethod
    def rows(cls, task: Task, train: Split, options: Mapping[str, Any], seed: int) -> list[Split]:
        """The repeated rows, ids `ORIGINAL#1`, `#2`, …"""
        rng = np.random.default_rng([seed, 0])
        chosen, turn = repeats(train.group, float(options["share"]), rng)
        if not len(chosen):
            return []
        ids = train.ids[chosen]
        columns: dict[str, Any] = {
            "id": [f"{name}#{number}" for name, number in zip(ids, turn, strict=True)]
        }
        if task.modality == "image":
            (column,) = task.inputs
            moves = rng.integers(-options["shift"], options["shift"] + 1, (len(chosen), 2))
            mirrored = rng.random(len(chosen)) < (0.5 if options["flip"] else 0)
            images = read_images(train.select(chosen).rows, column, 0, len(chosen), as_rgb)
            columns[column] = [
                encoded(moved(image, int(move[0]), int(move[1]), bool(mirror)))
                for image, move, mirror in zip(images, moves, mirrored, strict=True)
            ]
        return [replace(changed(train, chosen, columns), name="upsample")]


def repeats(group: Ints, share: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(R,) rows to take again, group by group, and (R,) the how-manieth repetition each is."""
    if not 0 < share <= 1:
        raise HarnessError(f"augmentation upsample: share must be in (0, 1], not {share:g}.")
    known = np.unique(group[group >= 0])
    counts = {int(g): int((group == g).sum()) for g in known}
    target = round(share * max(counts.values(), default=0))
    chosen, turn = [], []
    for g, count in counts.items():
        rows = rng.permutation(np.flatnonzero(group == g))
        need = max(target - count, 0)
        chosen.append(np.resize(rows, need))
        turn.append(np.arange(need) // count + 1)
    return np.concatenate(chosen).astype(np.int64), np.concatenate(turn).astype(np.int64)


def moved(image: Any, down: int, right: int, mirrored: bool) -> Any:
    """An image (H, W, 3) moved by a few pixels, its edges repeated."""
    high, wide = image.shape[:2]
    rows = np.clip(np.arange(high) - down, 0, high - 1)
    columns = np.clip(np.arange(wide) - right, 0, wide - 1)
    out = image[rows][:, columns]
    return out[:, ::-1] if mirrored else out


def encoded(pixels: Any) -> dict[str, Any]:
    """An image as `datasets.Image` stores it: a PNG, which loses nothing."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=1)
    return {"bytes": stream.getvalue(), "path": None}


class Pool(Augmentation):
    """Rows of a file of one's own: CSV, TSV, JSON lines or Parquet with the task's input columns.

    `columns` maps inputs to other column names; images are file names, relative to the file.
    `label` names the column of labels, `attribute` that of attributes, `cluster` that of what rows
    have in common, which counts where they are judged on; without labels the rows are an unlabelled
    pool that the teacher labels, kept where it is `confidence` sure. Rows that revise
    others (counterfactually augmented data) are such a file.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "file": "",
        "columns": {},
        "label": "",
        "attribute": "",
        "cluster": "",
        "confidence": 0.0,
    }

    @classmethod
    def labelled(cls, options: Mapping[str, Any]) -> bool:
        """Where a column of labels is named."""
        return bool(options["label"])

    @classmethod
    def rows(cls, task: Task, train: Split, options: Mapping[str, Any], seed: int) -> list[Split]:
        """Every row of the file, ids `FILE:NUMBER`."""
        if not options["file"]:
            raise HarnessError("augmentation pool needs a file: augmentations.pool.file=PATH.")
        file = Path(options["file"])
        for name in options["columns"]:
            if name not in task.inputs:
                raise unknown(f"input of task {task.task}", name, task.inputs)
        named = {name: str(options["columns"].get(name, name)) for name in task.inputs}
        wanted = ("label", "attribute", "cluster")
        extra = {key: str(options[key]) for key in wanted if options[key]}
        table = read_columns(file, [*named.values(), *extra.values()], Format())
        cluster = extra.pop("cluster", "")  # a row without one stands alone
        complete(table, [*named.values(), *extra.values()], drop=False)
        columns = {name: values.to_pylist() for name, values in table.columns.items()}
        count = len(next(iter(columns.values())))
        label = np.zeros(count, np.int64)
        if options["label"]:
            label = indices(columns[extra["label"]], train.labels, file)
        inputs: dict[str, Sequence[Any]] = {name: columns[column] for name, column in named.items()}
        if task.modality == "image":
            (name,) = task.inputs
            inputs = {
                name: [stored(file, row, column) for row, column in enumerate(inputs[name], 1)]
            }
        split = additional(
            train,
            f"pool {file.name}",
            inputs=inputs,
            ids=[f"{file.name}:{row}" for row in range(1, count + 1)],
            label=label,
            attribute=columns[extra["attribute"]] if options["attribute"] else None,
            cluster=[name or "" for name in columns[cluster]] if cluster else None,
        )
        return [split]


def indices(values: Sequence[str], labels: tuple[str, ...], file: Path) -> Ints:
    """(N,) indices into `labels`, which are matched whatever their case."""
    known = {name.lower(): index for index, name in enumerate(labels)}
    for row, value in enumerate(values, 1):
        if value.lower() not in known:
            raise HarnessError(
                f"{file}: row {row}: label {value!r} is not one of {', '.join(labels)}."
            )
    return np.array([known[value.lower()] for value in values], np.int64)


def stored(file: Path, row: int, name: str) -> dict[str, Any]:
    """An image file's bytes."""
    path = file.parent / name
    if not path.is_file():
        raise HarnessError(f"{file}: row {row}: no image {path}.")
    return {"bytes": path.read_bytes(), "path": None}


class Counterfactual(Augmentation):
    """A share of the training rows again, with another attribute and the same label.

    The task makes them (`counterfactual` in its file): another colour of the same digit, another
    digit above the same vehicle.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"counterfactual", "environments"})
    defaults: ClassVar[Mapping[str, Any]] = {"share": 0.5}

    @classmethod
    def rows(cls, task: Task, train: Split, options: Mapping[str, Any], seed: int) -> list[Split]:
        """The changed rows, ids `ORIGINAL#other`."""
        rng = np.random.default_rng([seed, 1])
        some = train.select(part_of(len(train), float(options["share"]), rng))
        inputs, attribute = task.load_attribute(str(task.counterfactual))(some, rng)
        images = isinstance(some.rows.features[task.inputs[0]], datasets.Image)
        split = additional(
            train,
            "counterfactual",
            inputs={k: [encoded(v) for v in vs] if images else vs for k, vs in inputs.items()},
            ids=[f"{name}#other" for name in some.ids],
            label=some.label,
            attribute=attribute,
        )
        return [split]


def part_of(rows: int, share: float, rng: np.random.Generator) -> Ints:
    """(R,) a share of row numbers, in order."""
    if not 0 < share <= 1:
        raise HarnessError(f"augmentations: share must be in (0, 1], not {share:g}.")
    return np.sort(rng.permutation(rows)[: max(1, round(share * rows))])
