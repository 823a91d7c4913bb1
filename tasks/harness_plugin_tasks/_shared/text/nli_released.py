"""NLI corpora on disk: the original releases, GLUE, saved hub copies, or files by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest
from harness_plugin.data.hub import load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import find, hub_copies, missing, require, the_one
from harness_plugin_tasks._shared.text.nli_hub import (
    ANY_NLI,
    MULTINLI,
    SNLI,
    Corpus,
    Training,
    corpus_of,
    of_corpus,
)
from harness_plugin_tasks._shared.text.splits import RELEASED_ROWS
from harness_plugin_tasks._shared.text.tables import Table, read_nli, row_variants, table_name

if TYPE_CHECKING:
    import datasets

NLI_SCHEMA = {"premise", "hypothesis", "label"}


def either(stem: str) -> tuple[str, ...]:
    """The two files in which the releases hold the same rows."""
    return f"{stem}.jsonl", f"{stem}.txt"


class Release(NamedTuple):
    """One NLI corpus: the names of its files by what they are for.

    `train` and `in_domain` are required, `mismatched` is a second in-domain set where there is
    one, `validation` is loaded where there is one.
    """

    train: tuple[str, ...]
    in_domain: tuple[str, ...]
    mismatched: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()


class TrainingCorpora(NamedTuple):
    """Which corpora a task trains on: the first release that is there, else a hub copy."""

    releases: tuple[Release, ...]
    corpora: tuple[Corpus, ...]


MULTINLI_FILES = (
    Release(
        either("multinli_1.0_train"),
        either("multinli_1.0_dev_matched"),
        either("multinli_1.0_dev_mismatched"),
    ),
    Release(("MNLI/train.tsv",), ("MNLI/dev_matched.tsv",), ("MNLI/dev_mismatched.tsv",)),
)
FROM_MULTINLI = TrainingCorpora(MULTINLI_FILES, (MULTINLI,))
FROM_SNLI = TrainingCorpora(
    (
        Release(
            either("snli_1.0_train"), either("snli_1.0_test"), validation=either("snli_1.0_dev")
        ),
    ),
    (SNLI,),
)
FROM_ANY = TrainingCorpora(
    (*MULTINLI_FILES, Release(either("snli_1.0_train"), either("snli_1.0_dev"))),
    (MULTINLI, ANY_NLI),
)


class Chosen(NamedTuple):
    """The files that the task's options name, relative to the data folder."""

    task: str
    train: tuple[str, ...]
    in_domain: tuple[str, ...]
    holdout: str
    fraction: float


def chosen_files(task: str, options: Mapping[str, Any]) -> Chosen:
    """The files named in the options. Raises HarnessError for names that contradict each other."""
    listed = {}
    for key in ("train_files", "in_domain_files"):
        names = options[key] or ()
        names = (names,) if isinstance(names, str) else tuple(names)
        if not all(isinstance(name, str) for name in names):
            raise HarnessError(f"{task}.{key} must be a list of files, found {options[key]!r}.")
        listed[key] = names
    chosen = Chosen(
        task,
        listed["train_files"],
        listed["in_domain_files"],
        options["holdout_file"] or "",
        options["holdout_fraction"],
    )
    if isinstance(chosen.fraction, bool) or not isinstance(chosen.fraction, int | float):
        raise HarnessError(f"{task}.holdout_fraction must be a number, found {chosen.fraction!r}.")
    if not 0 < chosen.fraction < 1:
        raise HarnessError(f"{task}.holdout_fraction must be between 0 and 1: {chosen.fraction}.")
    if chosen.holdout and chosen.in_domain:
        raise HarnessError(
            f"{task}.holdout_file and {task}.in_domain_files are both given; drop one."
        )
    if chosen.train and not (chosen.holdout or chosen.in_domain):
        raise HarnessError(
            f"{task}.train_files also needs {task}.in_domain_files or {task}.holdout_file."
        )
    names = (*chosen.train, *chosen.in_domain, *filter(None, [chosen.holdout]))
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise HarnessError(f"{task}: {twice} is named twice in the options.")
    return chosen


def training(
    root: Path, chosen: Chosen, corpora: TrainingCorpora, request: DataRequest
) -> Training:
    """Training and in-domain tables, and what a reader should know of them.

    The corpora that the options name, else `corpora` of the files under `root`. Where nothing is
    trained, only the in-domain sets that are there and asked for. Raises HarnessError naming the
    file and row for anything missing or malformed.
    """
    if not request.trains:
        return in_domain_only(root, chosen, corpora, request)
    needs_in_domain = not (chosen.in_domain or chosen.holdout)
    if chosen.train:
        read_in = Training(named(root, chosen.train), {}, [])
    else:
        read_in = released(root, corpora, chosen.task, needs_in_domain)
    train, in_domain, notes, validation = read_in
    if chosen.in_domain:
        in_domain = {"id": named(root, chosen.in_domain)}
    read = [*train, *(table for tables in in_domain.values() for table in tables), *validation]
    if chosen.holdout:
        (whole,) = named(root, [chosen.holdout])
        rest, held = hold_out(whole, chosen, request.seed)
        train, in_domain, read = [*train, rest], {"id": [held]}, [*read, whole]
        notes = [
            *notes,
            f"id: {len(held):,} of the {len(whole):,} pairs of {chosen.holdout}, drawn by premise; "
            "the others are trained on",
        ]
    variants = row_variants(read, RELEASED_ROWS)
    return Training(train, in_domain, list(dict.fromkeys([*notes, *variants])), validation)


def in_domain_only(
    root: Path, chosen: Chosen, corpora: TrainingCorpora, request: DataRequest
) -> Training:
    """The in-domain tables that the options name, or that are under `root`; {} without any."""
    tables: dict[str, list[Table]] = {}
    if not request.asks_for("id", "id_mismatched"):
        return Training([], tables, [])
    if chosen.in_domain:
        tables["id"] = named(root, chosen.in_domain)
    elif chosen.holdout:
        (whole,) = named(root, [chosen.holdout])
        tables["id"] = [hold_out(whole, chosen, request.seed)[1]]
    elif files := [
        (release, file) for release in corpora.releases if (file := find(root, release.in_domain))
    ]:
        release, matched = files[0]
        tables["id"] = [read_nli(matched)]
        if mismatched := find(root, release.mismatched):
            tables["id_mismatched"] = [read_nli(mismatched)]
    elif copy := nli_copy(root, corpora):
        return of_corpus(*copy, training=False)
    read = [table for part in tables.values() for table in part]
    return Training([], tables, row_variants(read, RELEASED_ROWS))


def named(root: Path, names: Sequence[str]) -> list[Table]:
    """The files called `names` under `root`; ids stay apart when two files share a stem."""
    tables: list[Table] = []
    for name in names:
        stem = table_name(root / name)
        before = sum(table.name.partition("#")[0] == stem for table in tables)
        tables.append(read_nli(root / name, f"{stem}#{before + 1}" if before else stem))
    return tables


def hold_out(table: Table, chosen: Chosen, seed: int) -> tuple[Table, Table]:
    """The rows to train on and those held out: a fraction of the premises, with all their pairs.

    Pairs that share a premise stay together, so that no held-out premise was trained on.
    """
    premises = list(dict.fromkeys(table.columns["premise"]))
    n_held = round(chosen.fraction * len(premises))
    if not 0 < n_held < len(premises):
        raise HarnessError(
            f"{table.where}: {chosen.fraction} of its {len(premises)} premises leaves nothing to "
            f"train on or to test on; change {chosen.task}.holdout_fraction."
        )
    order = np.random.default_rng(seed).permutation(len(premises))
    held = {premises[i] for i in order[:n_held]}
    sides: tuple[list[int], list[int]] = ([], [])
    for row, premise in enumerate(table.columns["premise"]):
        sides[premise in held].append(row)
    return table.select(sides[0]), table.select(sides[1])


def released(root: Path, corpora: TrainingCorpora, task: str, needs_in_domain: bool) -> Training:
    """The first release of `corpora` whose training file is under `root`, else a hub copy."""
    there = [(release, file) for release in corpora.releases if (file := find(root, release.train))]
    if not there:
        return copied(root, corpora, task)
    release, file = there[0]
    notes = [
        f"trained on {file.name}; {other.name} is there as well ({task}.train_files chooses)"
        for _, other in there[1:]
    ]
    in_domain = {}
    if needs_in_domain:
        matched = require(
            root,
            release.in_domain,
            f", the in-domain set of {file.name}. {task}.in_domain_files or {task}.holdout_file "
            "names another",
        )
        in_domain["id"] = [read_nli(matched)]
        if mismatched := find(root, release.mismatched):
            in_domain["id_mismatched"] = [read_nli(mismatched)]
    validation = [read_nli(other)] if (other := find(root, release.validation)) else []
    return Training([read_nli(file)], in_domain, notes, validation)


def copied(root: Path, corpora: TrainingCorpora, task: str) -> Training:
    """The rows of a hub copy of one of the corpora."""
    if copy := nli_copy(root, corpora):
        return of_corpus(*copy)
    names = [name for release in corpora.releases for name in release.train]
    raise missing(
        root,
        names,
        ", nor a folder in it with a hub copy (columns premise, hypothesis, label). "
        f"{task}.train_files names other files",
    )


def nli_copy(
    root: Path, corpora: TrainingCorpora
) -> tuple[datasets.DatasetDict, str, Corpus] | None:
    """A hub copy under `root`, its folder and which corpus it is of; None without one."""
    schema = hub_copies(root, lambda names: names >= NLI_SCHEMA and "heuristic" not in names)
    loaded = {folder: load_local(folder) for folder in schema}
    fit = [f for f, data in loaded.items() if corpus_of(data, corpora.corpora).needed <= {*data}]
    if folder := the_one(root, fit or schema[:1]):
        return loaded[folder], str(folder), corpus_of(loaded[folder], corpora.corpora)
    return None
