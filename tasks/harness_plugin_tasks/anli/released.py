"""ANLI from the hub or a folder, trained on its own rounds, on MultiNLI or on SNLI."""

from __future__ import annotations

from typing import NamedTuple

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.data.hub import load_hub, load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, hub_copy, missing
from harness_plugin_tasks._shared.text import nli_hub
from harness_plugin_tasks._shared.text.nli_released import (
    FROM_MULTINLI,
    FROM_SNLI,
    NLI_SCHEMA,
    TrainingCorpora,
    chosen_files,
    training,
)
from harness_plugin_tasks._shared.text.splits import concatenated, table_split
from harness_plugin_tasks._shared.text.tables import Table, row_variants
from harness_plugin_tasks.anli.rounds import ROUNDS, ROWS, Reader, from_splits, released

REPOSITORY = "facebook/anli"
REVISION = "8e4813d81f46d313dac7892e1c28076917cfcdf9"
CORPORA = {"mnli": nli_hub.MULTINLI, "snli": nli_hub.SNLI}
FILES: dict[str, TrainingCorpora] = {"mnli": FROM_MULTINLI, "snli": FROM_SNLI}


class Own(NamedTuple):
    """Use of one of ANLI's own parts when it is trained on."""

    name: str
    purpose: Purpose


OWN = {"train": Own("train", "train"), "validation": Own("dev", "validation")}


class Part(NamedTuple):
    """The tables of one split and their rounds, none where they are not of ANLI."""

    purpose: Purpose
    tables: list[Table]
    rounds: list[int]


def from_hub(request: DataRequest) -> TaskData:
    """ANLI and the corpus to train on from the hub. Raises HarnessError as `load_hub` does."""
    read = from_splits(load_hub(REPOSITORY, revision=REVISION), REPOSITORY)
    train = request.options["train"]
    return rounds_data(
        request, read, None if train == "anli" else nli_hub.from_hub(CORPORA[train], request)
    )


def from_path(request: DataRequest) -> TaskData:
    """ANLI and the corpus to train on from a folder, as released or as hub copies.

    Raises HarnessError naming file and row for anything missing or malformed.
    """
    root = data_folder(request)
    if (read := released(root)) is None:
        if (copy := hub_copy(root, {*NLI_SCHEMA, "uid"}.issubset)) is None:
            raise missing(
                root,
                ["R1/test.jsonl"],
                ", nor a folder in it with a hub copy (columns uid, premise, hypothesis, label)",
            )
        read = from_splits(load_local(copy), str(copy))
    name = request.options["train"]
    chosen = chosen_files(request.task.task, request.options)
    if name == "anli":
        if chosen.train or chosen.in_domain or chosen.holdout:
            raise HarnessError(
                "anli.train=anli trains on ANLI's rounds; drop train_files, in_domain_files and "
                "holdout_file, or set anli.train."
            )
        return rounds_data(request, read, None)
    return rounds_data(request, read, training(root, chosen, FILES[name], request))


def rounds_data(request: DataRequest, read: Reader, other: nli_hub.Training | None) -> TaskData:
    """The splits of ANLI trained on its own rounds, or on an `other` corpus and out of its domain.

    No split has groups: ANLI annotates no bias. Each test round is a set of its own.
    """
    chosen, trains = chosen_rounds(request), request.trains
    tests: dict[str, Part] = {
        f"test_r{number}": Part("ood" if other else "in_domain", [read("test", number)], [number])
        for number in ROUNDS
    }
    parts: dict[str, Part] = {}
    if other is None:
        for name, part in OWN.items() if trains else ():
            parts[name] = Part(part.purpose, [read(part.name, n) for n in chosen], chosen)
        notes = row_variants((t for part in parts.values() for t in part.tables), ROWS)
    else:
        if other.train:
            parts["train"] = Part("train", other.train, [])
        if other.validation:
            parts["validation"] = Part("validation", [*other.validation], [])
        parts |= {name: Part("in_domain", tables, []) for name, tables in other.in_domain.items()}
        notes = [*other.notes]
    notes += row_variants((part.tables[0] for part in tests.values()), ROWS)
    splits = {name: split_of(name, part) for name, part in (parts | tests).items()}
    return TaskData(request.task.task, request.source, splits, tuple(notes))


def chosen_rounds(request: DataRequest) -> list[int]:
    """The rounds to train on, sorted. Raises HarnessError for anything that is no round."""
    value = request.options["rounds"]
    numbers = [value] if isinstance(value, int) else value
    if not isinstance(numbers, list | tuple) or not numbers or {*numbers} - {*ROUNDS}:
        raise HarnessError(f"anli.rounds must list some of 1, 2 and 3, found {value!r}.")
    return sorted({*numbers})


def split_of(name: str, part: Part) -> Split:
    """One split without groups, whose breakdown `round` is that of every row."""
    labels = [str(number) for number in part.rounds] or [""] * len(part.tables)
    rounds = [
        f"r{label}" if label else ""
        for label, table in zip(labels, part.tables, strict=True)
        for _ in range(len(table))
    ]
    return table_split(
        name,
        purpose=part.purpose,
        table=concatenated(part.tables),
        breakdowns={"round": rounds},
    )
