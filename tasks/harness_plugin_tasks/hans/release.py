"""NLI and HANS on disk: the original releases, GLUE, or saved copies of hub repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from harness_plugin.data import DataRequest, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin.hub import load_local
from harness_plugin_tasks.hans.hub import Training, hans_test, nli_training
from harness_plugin_tasks.hans.splits import task_data, variant
from harness_plugin_tasks.hans.tables import Table, read_hans, read_nli, table_name

HANS_FILES = ("heuristics_evaluation_set.txt", "heuristics_evaluation_set.jsonl")
NLI_SCHEMA = {"premise", "hypothesis", "label"}


def either(stem: str) -> tuple[str, ...]:
    """The two files in which the releases hold the same rows."""
    return f"{stem}.jsonl", f"{stem}.txt"


class Release(NamedTuple):
    """One NLI data set: the names of its training file and its in-domain files, by split."""

    train: tuple[str, ...]
    in_domain: tuple[str, ...]
    mismatched: tuple[str, ...] = ()


RELEASES = (
    Release(
        either("multinli_1.0_train"),
        either("multinli_1.0_dev_matched"),
        either("multinli_1.0_dev_mismatched"),
    ),
    Release(("MNLI/train.tsv",), ("MNLI/dev_matched.tsv",), ("MNLI/dev_mismatched.tsv",)),
    Release(either("snli_1.0_train"), either("snli_1.0_dev")),
)
"""The first whose training file is there is trained on."""


class Chosen(NamedTuple):
    """The files that the task's options name, relative to the data folder."""

    train: tuple[str, ...]
    in_domain: tuple[str, ...]
    holdout: str
    fraction: float


def load(request: DataRequest) -> TaskData:
    """Splits from the files in `request.path` or in its direct subfolders, found by name.

    Test: heuristics_evaluation_set. Training and in-domain: MultiNLI, else GLUE's MNLI, else SNLI
    as released, else a saved hub copy in a folder of its own. MultiNLI's mismatched set, where
    there is one, is a second in-domain split. The options train_files, in_domain_files, and
    holdout_file with holdout_fraction say otherwise.

    Raises HarnessError naming the file and row for anything missing or malformed.
    """
    root = request.path
    if root is None or not root.is_dir():
        raise HarnessError(f"hans: {root} is not a directory; give --data PATH.")
    chosen = chosen_files(request.options)
    hans = hans_in(root)
    train, in_domain, notes = training(root, chosen, request.seed)
    return task_data(
        request.source,
        train=train,
        in_domain=in_domain,
        hans=hans,
        collapse_rule=request.options["collapse"],
        notes=notes,
    )


def chosen_files(options: Mapping[str, Any]) -> Chosen:
    """The files named in the options. Raises HarnessError for names that contradict each other."""
    listed = {}
    for key in ("train_files", "in_domain_files"):
        names = options[key] or ()
        names = (names,) if isinstance(names, str) else tuple(names)
        if not all(isinstance(name, str) for name in names):
            raise HarnessError(f"hans.{key} must be a list of files, found {options[key]!r}.")
        listed[key] = names
    chosen = Chosen(
        listed["train_files"],
        listed["in_domain_files"],
        options["holdout_file"] or "",
        options["holdout_fraction"],
    )
    if isinstance(chosen.fraction, bool) or not isinstance(chosen.fraction, int | float):
        raise HarnessError(f"hans.holdout_fraction must be a number, found {chosen.fraction!r}.")
    if not 0 < chosen.fraction < 1:
        raise HarnessError(f"hans.holdout_fraction must be between 0 and 1: {chosen.fraction}.")
    if chosen.holdout and chosen.in_domain:
        raise HarnessError("hans.holdout_file and hans.in_domain_files are both given; drop one.")
    if chosen.train and not (chosen.holdout or chosen.in_domain):
        raise HarnessError("hans.train_files also needs hans.in_domain_files or hans.holdout_file.")
    names = (*chosen.train, *chosen.in_domain, *filter(None, [chosen.holdout]))
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise HarnessError(f"hans: {twice} is named twice in the options.")
    return chosen


def training(root: Path, chosen: Chosen, seed: int) -> Training:
    """Training and in-domain tables, and what a reader should know of them."""
    needs_in_domain = not (chosen.in_domain or chosen.holdout)
    if chosen.train:
        train, in_domain, notes = Training(named(root, chosen.train), {}, [])
    else:
        train, in_domain, notes = released(root, needs_in_domain)
    if chosen.in_domain:
        in_domain = {"id": named(root, chosen.in_domain)}
    read = [*train, *(table for tables in in_domain.values() for table in tables)]
    if chosen.holdout:
        (whole,) = named(root, [chosen.holdout])
        rest, held = hold_out(whole, chosen.fraction, seed)
        train, in_domain, read = [*train, rest], {"id": [held]}, [*read, whole]
        notes = [
            *notes,
            f"id: {len(held):,} of the {len(whole):,} pairs of {chosen.holdout}, drawn by premise; "
            "the others are trained on",
        ]
    variants = [note for table in read for note in variant(table)]
    return Training(train, in_domain, list(dict.fromkeys([*notes, *variants])))


def named(root: Path, names: Sequence[str]) -> list[Table]:
    """The files called `names` under `root`; ids stay apart when two files share a stem."""
    tables: list[Table] = []
    for name in names:
        stem = table_name(root / name)
        before = sum(table.name.partition("#")[0] == stem for table in tables)
        tables.append(read_nli(root / name, f"{stem}#{before + 1}" if before else stem))
    return tables


def hold_out(table: Table, fraction: float, seed: int) -> tuple[Table, Table]:
    """The rows to train on and those held out: `fraction` of the premises, with all their pairs.

    Pairs that share a premise stay together, so that no held-out premise was trained on.
    """
    premises = list(dict.fromkeys(table.columns["premise"]))
    n_held = round(fraction * len(premises))
    if not 0 < n_held < len(premises):
        raise HarnessError(
            f"{table.where}: {fraction} of its {len(premises)} premises leaves nothing to train on "
            "or to test on; change hans.holdout_fraction."
        )
    order = np.random.default_rng(seed).permutation(len(premises))
    chosen = {premises[i] for i in order[:n_held]}
    sides: tuple[list[int], list[int]] = ([], [])
    for row, premise in enumerate(table.columns["premise"]):
        sides[premise in chosen].append(row)
    return table.select(sides[0]), table.select(sides[1])


def released(root: Path, needs_in_domain: bool) -> Training:
    """The first data set of RELEASES whose training file is under `root`, else a hub copy."""
    there = [(release, file) for release in RELEASES if (file := find(root, release.train))]
    if not there:
        if copy := hub_copy(root, heuristic=False):
            return nli_training(load_local(copy), str(copy))
        names = [name for release in RELEASES for name in release.train]
        raise HarnessError(
            f"{missing(root, names)}, nor a folder in it with a hub copy (columns premise, "
            "hypothesis, label). hans.train_files names other files."
        )
    release, file = there[0]
    notes = [
        f"trained on {file.name}; {other.name} is there as well (hans.train_files chooses)"
        for _, other in there[1:]
    ]
    in_domain = {}
    if needs_in_domain:
        matched = find(root, release.in_domain)
        if matched is None:
            raise HarnessError(
                f"{missing(root, release.in_domain)}, the in-domain set of {file.name}. "
                "hans.in_domain_files or hans.holdout_file names another."
            )
        in_domain["id"] = [read_nli(matched)]
        if mismatched := find(root, release.mismatched):
            in_domain["id_mismatched"] = [read_nli(mismatched)]
    return Training([read_nli(file)], in_domain, notes)


def hans_in(root: Path) -> Table:
    """The HANS evaluation set under `root`, as released or as a hub copy."""
    if file := find(root, HANS_FILES):
        return read_hans(file)
    if copy := hub_copy(root, heuristic=True):
        return hans_test(load_local(copy), str(copy))
    raise HarnessError(
        f"{missing(root, HANS_FILES)}, nor a folder in it with a hub copy (columns premise, "
        "hypothesis, label, heuristic, subcase)."
    )


def find(root: Path, names: Sequence[str]) -> Path | None:
    """The file of the first of `names` that is in `root` or in a direct subfolder.

    Raises HarnessError when it is in two places.
    """
    for name in names:
        files = [file for file in (root / name, *sorted(root.glob(f"*/{name}"))) if file.is_file()]
        if len(files) > 1:
            raise HarnessError(f"{root}: {name} is there twice, {files[0]} and {files[1]}.")
        if files:
            return files[0]
    return None


def hub_copy(root: Path, heuristic: bool) -> Path | None:
    """The direct subfolder of `root` that is a hub copy of HANS (`heuristic`) or of NLI data.

    Raises HarnessError when there are two.
    """
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        columns = column_names(folder)
        if columns >= NLI_SCHEMA and ("heuristic" in columns) == heuristic:
            found.append(folder)
    if len(found) > 1:
        raise HarnessError(f"{root}: hub copies in both {found[0].name}/ and {found[1].name}/.")
    return found[0] if found else None


def column_names(folder: Path) -> set[str]:
    """The columns of the data set saved in `folder`; none if there is no such thing."""
    if (folder / "dataset_dict.json").is_file():
        return set(next(iter(load_local(folder).values())).column_names)
    file = next(folder.rglob("*.parquet"), None)
    return set(pq.read_schema(file).names) if file else set()


def missing(root: Path, names: Sequence[str]) -> str:
    """The beginning of the error for a file that is nowhere."""
    return f"{root}: found none of {', '.join(names)} (looked in it and in its direct subfolders)"
