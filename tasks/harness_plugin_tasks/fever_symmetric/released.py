"""FEVER and FEVER-Symmetric on disk or on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness_plugin.data.dataset import DataRequest, Purpose, TaskData
from harness_plugin.data.hub import load_hub, load_local
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.files import (
    data_folder,
    find,
    hub_copy,
    missing,
    require_splits,
    row_variant,
)
from harness_plugin_tasks._shared.text.splits import concatenated
from harness_plugin_tasks._shared.text.tables import (
    Column,
    Table,
    hub_columns,
    nli_table,
    read_columns,
    require,
)
from harness_plugin_tasks.fever_symmetric.claims import (
    LABELS,
    TWO_LABELS,
    claim_split,
    symmetric_split,
)

if TYPE_CHECKING:
    import datasets

REPOSITORY = "copenlu/fever_gold_evidence"
REVISION = "main"
"""No commit of this repository could be checked, so that none is pinned."""

ID = Column("id", ("id",), required=False)
CLAIM = Column("hypothesis", ("claim", "sentence2"))
LABEL = Column("label", ("gold_label", "label"))
EVIDENCE = Column("premise", ("evidence", "evidence_sentence", "sentence1"))

TRAIN_FILE, DEV_FILE = "fever.train.jsonl", "fever.dev.jsonl"
SYMMETRIC = {
    "symmetric_v1_generated": ("fever_symmetric_generated.jsonl", 717),
    "symmetric_v1_full": ("fever_symmetric_full.jsonl", 956),
    "symmetric_v2_dev": ("fever_symmetric_dev.jsonl", 708),
    "symmetric_v2_test": ("fever_symmetric_test.jsonl", 712),
}
"""File and rows of each version by the name of its split."""

HUB_SPLITS: dict[str, tuple[str, Purpose]] = {
    "train": ("train", "train"),
    "validation": ("validation", "validation"),
    "test": ("id", "in_domain"),
}


def from_folder(request: DataRequest) -> TaskData:
    """FEVER and FEVER-Symmetric from the files in `request.path` or in its direct subfolders.

    Training: the files of the option train_files, else fever.train.jsonl with fever.dev.jsonl as
    the in-domain set, else a hub copy in a folder of its own. Every symmetric file that is there
    is a test; the option tests chooses among them. Where nothing is trained, no training file is
    opened, and an in-domain set is read where there is one.

    Raises HarnessError naming the file and line for anything missing or malformed.
    """
    root, options = data_folder(request), request.options
    train_files = file_names(options, "train_files")
    tests = symmetric_tables(Path(options["symmetric"] or root), options["tests"], train_files)
    notes: list[str] = []
    splits: dict[tuple[str, Purpose], Table] = {}
    file, dev = find(root, [TRAIN_FILE]), find(root, [DEV_FILE])
    if train_files:
        if request.trains:
            named = [read_fever(root / name) for name in train_files]
            splits["train", "train"], notes = unseen(concatenated(named), tests)
    elif file or (dev and not request.trains):
        if file and request.trains:
            splits["train", "train"] = read_fever(file)
        if dev and request.asks_for("id"):
            splits["id", "in_domain"] = read_fever(dev)
    elif copy := hub_copy(root, {"claim", "evidence", "label"}.issubset):
        splits = gold_evidence(load_local(copy), str(copy), request)
    elif request.trains:
        raise missing(
            root,
            [TRAIN_FILE],
            ", nor a folder in it with a hub copy (columns claim, evidence, label). "
            "fever_symmetric.train_files names other files",
        )
    if in_domain_files := file_names(options, "in_domain_files"):
        held = concatenated([read_fever(root / name) for name in in_domain_files])
        splits["id", "in_domain"] = held
    return task_data(request, splits, tests, notes)


def from_hub(request: DataRequest) -> TaskData:
    """FEVER with gold evidence from the hub; FEVER-Symmetric from the folder `symmetric`.

    Raises HarnessError when the hub cannot be reached, and without that folder: no hub copy of
    FEVER-Symmetric is known.
    """
    folder = request.options["symmetric"]
    if not folder:
        raise HarnessError(
            "fever_symmetric: the hub has FEVER but no known copy of FEVER-Symmetric; name the "
            "folder with its files: --set fever_symmetric.symmetric=DIR."
        )
    tests = symmetric_tables(Path(folder), request.options["tests"], ())
    loaded = load_hub(REPOSITORY, revision=REVISION)
    return task_data(request, gold_evidence(loaded, REPOSITORY, request), tests, [])


def task_data(
    request: DataRequest,
    tables: Mapping[tuple[str, Purpose], Table],
    tests: Mapping[str, Table],
    notes: Sequence[str],
) -> TaskData:
    """The splits of all tables, with two labels where the option two_way asks for them."""
    labels = TWO_LABELS if request.options["two_way"] else LABELS
    splits = [
        claim_split(name, purpose, with_labels(table, labels), labels)
        for (name, purpose), table in tables.items()
    ]
    splits += [symmetric_split(name, table, quadruples(table)) for name, table in tests.items()]
    messages = [
        *notes,
        *(note for table in tables.values() for note in without_evidence(table)),
        *(
            note
            for name, table in tests.items()
            for note in row_variant(table.where, len(table), SYMMETRIC[name][1])
        ),
    ]
    return TaskData("fever_symmetric", request.source, {s.name: s for s in splits}, tuple(messages))


def quadruples(table: Table) -> list[str]:
    """Common prefixes of a quadruple's ids: those of written pairs end in 0000002 to 0000004."""
    return [re.sub(r"000000\d$", "", name) for name in table.columns["id"]]


def file_names(options: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The files that an option lists; one may be given without a list."""
    names = options[key] or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) for name in names):
        raise HarnessError(f"fever_symmetric.{key} must be a list of files: {options[key]!r}.")
    return names


def symmetric_tables(
    root: Path, names: Sequence[str], train_files: Sequence[str]
) -> dict[str, Table]:
    """The symmetric files under `root` that are asked for and not trained on, by split name."""
    for name in names:
        if name not in SYMMETRIC:
            raise unknown("value of fever_symmetric.tests", str(name), SYMMETRIC)
    trained = {Path(name).name for name in train_files}
    tables = {}
    for name, (file_name, _) in SYMMETRIC.items():
        if names and name not in names:
            continue
        file = find(root, [file_name])
        if file is None and names:
            raise missing(root, [file_name], f", asked for as {name}")
        if file is not None and file_name not in trained:
            tables[name] = read_fever(file)
    if not tables:
        names = [file for file, _ in SYMMETRIC.values()]
        raise missing(root, names, " that is not trained on")
    return tables


def read_fever(file: Path) -> Table:
    """Pairs from a .jsonl file of FEVER or FEVER-Symmetric, in the order of the file.

    Raises HarnessError naming file and line for anything missing or malformed.
    """
    columns = read_columns(file, (ID, CLAIM, LABEL, EVIDENCE))
    return nli_table(file.stem, str(file), columns, LABELS)


def gold_evidence(
    loaded: datasets.DatasetDict, where: str, request: DataRequest
) -> dict[tuple[str, Purpose], Table]:
    """Tables of the hub's splits: train, validation, and test as the in-domain set."""
    require_splits(loaded, request.parts(("train", "test")), where)
    return {
        HUB_SPLITS[split]: gold_table(rows, f"fever_gold_{split}", f"{where}, split {split!r}")
        for split, rows in loaded.items()
        if split == "test" or (request.trains and split in HUB_SPLITS)
    }


def gold_table(rows: datasets.Dataset, name: str, where: str) -> Table:
    """One hub split; the sentences of a row's evidence are joined by blanks."""
    require((CLAIM, LABEL, EVIDENCE), rows.column_names, where)
    columns = hub_columns(rows, (CLAIM, LABEL), where)
    # ids of FEVER repeat where a claim has several sets of evidence
    columns["id"] = [""] * len(rows)
    evidence = rows.select_columns(["evidence"])["evidence"][:]
    columns["premise"] = [
        joined_evidence(each, f"{where}: row {row}") for row, each in enumerate(evidence, 1)
    ]
    return nli_table(name, where, columns, LABELS)


def joined_evidence(evidence: Any, where: str) -> str:
    """The sentences of a list of [page, line_id, sentence], joined by blanks."""
    if not isinstance(evidence, list) or any(
        not isinstance(each, list | tuple) or len(each) != 3 or not isinstance(each[2], str)
        for each in evidence
    ):
        raise HarnessError(
            f"{where}: evidence is {str(evidence)[:60]!r}; expected a list of [page, line_id, "
            "sentence]."
        )
    return " ".join(sentence for _, _, sentence in evidence)


def with_labels(table: Table, labels: Sequence[str]) -> Table:
    """The rows of `table` whose label is one of `labels`, or missing."""
    others = set(LABELS) - set(labels)
    return table.select([i for i, y in enumerate(table.columns["label"]) if y not in others])


def unseen(table: Table, tests: Mapping[str, Table]) -> tuple[Table, list[str]]:
    """The rows whose claim and evidence stand in no test, and a note of how many do not.

    The versions of FEVER-Symmetric share claims and evidence: 236 of the 354 claims of v0.2 dev
    are in v0.1.
    """
    tested = {
        (key, text)
        for test in tests.values()
        for key in ("premise", "hypothesis")
        for text in test.columns[key]
    }
    pairs = zip(table.columns["premise"], table.columns["hypothesis"], strict=True)
    keep = [
        row
        for row, (evidence, claim) in enumerate(pairs)
        if ("premise", evidence) not in tested and ("hypothesis", claim) not in tested
    ]
    left_out = len(table) - len(keep)
    if not keep:
        raise HarnessError(
            f"{table.where}: every row shares its claim or evidence with a test; choose other "
            "fever_symmetric.tests."
        )
    note = (
        f"train: {left_out:,} of {len(table):,} rows left out, whose claim or evidence is in a test"
    )
    return table.select(keep), [note] if left_out else []


def without_evidence(table: Table) -> Iterator[str]:
    """A note if rows of `table` have no evidence."""
    empty = sum(not evidence.strip() for evidence in table.columns["premise"])
    if empty:
        yield f"{table.where}: {empty:,} rows without evidence; models see the claim alone there"
