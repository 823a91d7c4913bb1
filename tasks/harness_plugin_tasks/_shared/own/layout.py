"""The options of a task on a user's own table, checked before the table is opened."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from harness_plugin.data.dataset import DataRequest, Purpose
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.own.tables import Format

PURPOSES: dict[str, Purpose] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "in_domain",
    "id": "in_domain",
    "in_domain": "in_domain",
    "ood": "ood",
    "balanced": "ood",
}
"""Purposes of splits whose names say so, where `purposes` does not name them."""

RESERVED = ("id", "label", "group", "members", "attribute", "aligned", "cluster")
"""Columns that every split has of its own."""


@dataclass(frozen=True)
class Layout:
    """Which column of which file is what.

    `files` are the splits' own files by split, or the one file under "". `split` is the column
    that names the split, or the share of each; {} where each split has its file. `attribute` is
    "" for data without one, `cluster` "" for independent rows. `points_to` is the label that an
    attribute value suggests; {} = what the training rows say.
    """

    task: str
    files: Mapping[str, Path]
    form: Format
    inputs: tuple[str, ...]
    label: str
    attribute: str
    cluster: str
    split: str | Mapping[str, float]
    id: str
    purposes: Mapping[str, Purpose]
    labels: tuple[str, ...]
    points_to: Mapping[str, str]
    breakdowns: tuple[str, ...]
    drop_missing: bool
    root: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        split = self.split if isinstance(self.split, str) else ""
        named = (self.label, self.attribute, self.cluster, split, self.id)
        return tuple(
            dict.fromkeys(name for name in (*self.inputs, *named, *self.breakdowns) if name)
        )

    def purpose(self, split: str) -> Purpose:
        """The purpose of `split`; HarnessError for a name that does not say it."""
        purpose = self.purposes.get(split) or PURPOSES.get(split.strip().lower())
        if purpose is None:
            raise HarnessError(
                f"task {self.task}: nothing says what split {split!r} is for. Add a line to the "
                f"task's file, e.g. purposes: {{{split}: ood}}; one of "
                f"{', '.join(get_args(Purpose))}."
            )
        return purpose


def layout_of(request: DataRequest) -> Layout:
    """The options of `request`, checked.

    Files are relative to the task's own file, or to the folder of --data.

    Raises HarnessError naming task and option.
    """
    task, options = request.task, request.options
    folder = request.path if request.path is not None else Path(task.file).parent
    if not folder.is_dir():
        raise HarnessError(f"task {task.task}: {folder} is not a directory; give --data DIR.")
    if options["table"] is None:
        raise HarnessError(
            f"task {task.task} is a template: write a YAML file with `base: {task.task}` and "
            "`table: FILE` (docs/data.md, 'Your own table')."
        )
    table = options["table"]
    if isinstance(table, Mapping):
        files = {
            str(split): folder / text(task.task, "table", file) for split, file in table.items()
        }
        if options["split"] is not None:
            raise refusal(
                task.task, "split", "left out where each split has a file", options["split"]
            )
    else:
        files = {"": folder / text(task.task, "table", table)}
    root = options.get("images")
    if options["attribute"] == options["label"]:
        raise refusal(task.task, "attribute", "another column than the label", options["label"])
    return Layout(
        task=task.task,
        files=files,
        form=form_of(task.task, options),
        inputs=inputs_of(request),
        label=text(task.task, "label", options["label"]),
        attribute=optional(task.task, options, "attribute"),
        cluster=optional(task.task, options, "cluster"),
        split=split_of(task.task, options["split"]) if "" in files else {},
        id=optional(task.task, options, "id"),
        purposes=purposes_of(task.task, options["purposes"]),
        labels=names(task.task, "labels", options["labels"]),
        points_to=pointers(task.task, options["aligned"]),
        breakdowns=breakdowns_of(request),
        drop_missing=flag(task.task, options, "drop_missing"),
        root=(folder if root is None else folder / text(task.task, "images", root)),
    )


def refusal(task: str, option: str, expected: str, value: object) -> HarnessError:
    """The error for an option that is not what it should be."""
    return HarnessError(f"task {task}: {option} must be {expected}, found {value!r}.")


def text(task: str, option: str, value: object) -> str:
    """A text that is not empty."""
    if option == "label" and isinstance(value, list | tuple):
        raise HarnessError(
            f"task {task}: label names {len(value)} columns: data with several labels a row "
            "(multi-label) are not supported. Make a task of each column."
        )
    if not isinstance(value, str) or not value:
        raise refusal(task, option, "a name", value)
    return value


def optional(task: str, options: Mapping[str, Any], option: str) -> str:
    """A text, "" for null."""
    return "" if options[option] is None else text(task, option, options[option])


def flag(task: str, options: Mapping[str, Any], name: str) -> bool:
    """An option that is true or false."""
    if not isinstance(options[name], bool):
        raise refusal(task, name, "true or false", options[name])
    return bool(options[name])


def form_of(task: str, options: Mapping[str, Any]) -> Format:
    """How the table is written."""
    delimiter, encoding = (optional(task, options, name) for name in ("delimiter", "encoding"))
    if len(delimiter) > 1:
        raise refusal(task, "delimiter", "one character (a tab is '\\t' in quotes)", delimiter)
    try:
        encoding = codecs.lookup(encoding or "utf-8").name
    except LookupError:
        raise refusal(task, "encoding", "one that Python knows, such as cp1252", encoding) from None
    return Format(delimiter or None, flag(task, options, "quoted"), encoding)


def names(task: str, option: str, value: object) -> tuple[str, ...]:
    """A list of distinct texts or whole numbers, () for null."""
    if value is None:
        return ()
    values = value if isinstance(value, list | tuple) else [None]
    good = all(isinstance(v, str | int) and not isinstance(v, bool) for v in values)
    texts = tuple(str(v) for v in values)
    if not good or len(set(texts)) != len(texts):
        raise refusal(task, option, "a list of distinct names", value)
    return texts


def inputs_of(request: DataRequest) -> tuple[str, ...]:
    """The input columns: one or two texts, or one image."""
    task = request.task
    most = 2 if task.modality == "text" else 1
    if len(task.inputs) > most:
        raise refusal(
            task.task, "inputs", f"at most {most} column(s) of {task.modality}", task.inputs
        )
    if taken := [name for name in task.inputs if name in RESERVED]:
        raise refusal(task.task, "inputs", f"other columns than {', '.join(RESERVED)}", taken[0])
    return task.inputs


def breakdowns_of(request: DataRequest) -> tuple[str, ...]:
    """The columns by whose values the scores are broken down."""
    columns = names(request.task.task, "breakdowns", request.options["breakdowns"])
    if taken := [name for name in columns if name in (*RESERVED, *request.task.inputs)]:
        raise refusal(
            request.task.task,
            "breakdowns",
            f"other columns than inputs and {', '.join(RESERVED)}",
            taken[0],
        )
    return columns


def split_of(task: str, value: object) -> str | Mapping[str, float]:
    """The column that names the split (default `split`), or the share of each, in sum 1."""
    if value is None:
        return "split"
    if not isinstance(value, Mapping):
        return text(task, "split", value)
    shares = {str(name): share for name, share in value.items()}
    good = all(
        isinstance(s, int | float) and not isinstance(s, bool) and s > 0 for s in shares.values()
    )
    if not good or abs(sum(shares.values()) - 1) > 1e-6:
        raise refusal(task, "split", "a column, or positive shares of sum 1", value)
    return shares


def purposes_of(task: str, value: object) -> dict[str, Purpose]:
    """Split name -> purpose."""
    known = get_args(Purpose)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or any(purpose not in known for purpose in value.values()):
        raise refusal(
            task, "purposes", f"split: purpose, with a purpose of {', '.join(known)}", value
        )
    return {str(split): purpose for split, purpose in value.items()}


def pointers(task: str, value: object) -> dict[str, str]:
    """Attribute value -> the label that it suggests."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refusal(task, "aligned", "attribute value: label", value)
    return {str(a): str(label) for a, label in value.items()}
