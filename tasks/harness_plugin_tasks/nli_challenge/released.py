"""NLI corpora and challenge sets from a folder, what is tested on kept apart from training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness_plugin.data.dataset import DataRequest, Split, TaskData
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.files import data_folder, row_variant
from harness_plugin_tasks._shared.options import share
from harness_plugin_tasks._shared.text.nli_released import (
    FROM_ANY,
    Chosen,
    chosen_files,
    hold_out,
    training,
)
from harness_plugin_tasks._shared.text.splits import RELEASED_ROWS, empty_cells, joined
from harness_plugin_tasks._shared.text.tables import Table, row_variants, table_name
from harness_plugin_tasks.nli_challenge.challenge_sets import (
    CHALLENGE_SETS,
    HANS_FILE,
    HANS_TRAINING_FILE,
    NAMES,
    as_training_pairs,
    drawn,
    hans,
    hans_rows,
    mnli_negation,
)
from harness_plugin_tasks.nli_challenge.corpora import read_pairs, without_premises


def from_folder(request: DataRequest) -> TaskData:
    """The splits `train`, `validation`, `id` and the challenge sets that are asked for.

    With evaluate_on=validation, `id` are the validation pairs and `hans` HANS-like rows of its
    training file; training rows are the same. Raises HarnessError naming the file and row for
    anything missing or malformed.
    """
    root = data_folder(request)
    options = request.options
    chosen = chosen_files(request.task.task, options)
    train, validation, in_domain, notes = nli(root, chosen, request)
    names = chosen_sets(options["tests"])
    tests, more = challenge_sets(root, request, names, in_domain)
    like_hans, others = hans_like(root, request)
    held = (premise for split in tests for premise in split.rows["premise"])
    apart = without_premises(train, held)
    dropped = sum(map(len, train)) - sum(map(len, apart))
    if dropped:
        notes.append(f"train: {dropped:,} pairs left out whose premise stands in a test set")
    if options["evaluate_on"] == "validation":
        if not validation:
            raise HarnessError(
                f"{request.task.task}.evaluate_on=validation needs validation pairs: name a "
                "holdout_file, of which validation_share is held out."
            )
        in_domain, tests = validation, [hans_test(others, request)] if others else []
    splits = [joined("train", "train", [*apart, *like_hans])]
    splits += [joined("validation", "validation", validation)] if validation else []
    splits += [joined("id", "in_domain", in_domain), *tests]
    notes += empty_cells(splits[0])
    return TaskData(request.task.task, request.source, {s.name: s for s in splits}, (*notes, *more))


def nli(
    root: Path, chosen: Chosen, request: DataRequest
) -> tuple[list[Table], list[Table], list[Table], list[str]]:
    """Training, validation and in-domain tables of NLI, and notes."""
    if not chosen.train and not chosen.holdout:
        rows = training(root, chosen, FROM_ANY, request)
        return rows.train, list(rows.validation), rows.in_domain["id"], list(rows.notes)
    train = [read_pairs(root / name, table_of(name, chosen.train)) for name in chosen.train]
    if not chosen.holdout:
        in_domain = [read_pairs(root / name) for name in chosen.in_domain]
        return train, [], in_domain, row_variants([*train, *in_domain], RELEASED_ROWS)
    whole = read_pairs(root / chosen.holdout)
    rest, test = hold_out(whole, chosen, request.seed)
    part = share(request, "validation_share")
    rest, validation = hold_out(rest, chosen._replace(fraction=part), request.seed)
    note = (
        f"{chosen.holdout}: {len(test):,} of {len(whole):,} pairs are the in-domain test set, "
        f"{len(validation):,} the validation set, drawn by premise; the others are trained on"
    )
    return [*train, rest], [validation], [test], [note, *row_variants([*train, whole], ROWS)]


ROWS = {
    **RELEASED_ROWS,
    "adversarial_train_15k": 15_000,
    "SICK_train": 4_500,
    "SICK_trial": 500,
    "SICK_test_annotated": 4_927,
}
"""Labelled rows of the files that may be named, by the name of their table."""


def table_of(name: str, names: Sequence[str]) -> str:
    """The name of a file's table; files of one name (train.tsv) get that of their folders."""
    stems = [table_name(Path(other)) for other in names]
    stem = table_name(Path(name))
    return stem if stems.count(stem) == 1 else str(Path(name).with_suffix(""))


def chosen_sets(listed: Sequence[object]) -> list[str]:
    """The challenge sets of the option `tests`. Raises HarnessError for none and an unknown one."""
    for name in listed:
        if name not in (*NAMES, "all"):
            raise unknown("challenge set", str(name), ["all", *NAMES])
    if not listed:
        raise HarnessError("nli_challenge.tests: no challenge set; all is every one of them.")
    return [name for name in NAMES if name in listed or "all" in listed]


def challenge_sets(
    root: Path, request: DataRequest, names: Sequence[str], in_domain: Sequence[Table]
) -> tuple[list[Split], list[str]]:
    """The splits of `names`, and a note for every one that has not as many rows as released."""
    splits: list[Split] = []
    notes: list[str] = []
    for name in names:
        if name == "hans":
            splits.append(hans_test(hans_rows(root, HANS_FILE), request))
            notes += row_variant(HANS_FILE, len(splits[-1]), 30_000)
        elif name == "mnli_negation":
            splits.append(mnli_negation(in_domain))
        else:
            splits.append(CHALLENGE_SETS[name].load(root))
            notes += row_variant(name, len(splits[-1]), CHALLENGE_SETS[name].rows)
    return splits, notes


def hans_test(table: Table, request: DataRequest) -> Split:
    """A table of HANS as a test; option n_hans keeps so many rows, as many of every cell."""
    rows = request.options["n_hans"]
    if rows:
        table = table.select(drawn(table, rows, request.seed)[0])
    return hans(table, "template", request.options["collapse"])


def hans_like(root: Path, request: DataRequest) -> tuple[list[Table], Table | None]:
    """Rows of HANS' training file: those to train on, and the others to choose settings by.

    Neither is read unless it is asked for.
    """
    rows = request.options["hans_rows"]
    if not rows and request.options["evaluate_on"] == "test":
        return [], None
    table = hans_rows(root, HANS_TRAINING_FILE)
    chosen, others = drawn(table, rows, request.seed) if rows else ([], list(range(len(table))))
    like_hans = [as_training_pairs(table.select(chosen))] if rows else []
    return like_hans, table.select(others)
