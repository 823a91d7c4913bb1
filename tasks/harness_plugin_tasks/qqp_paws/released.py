"""QQP and PAWS on disk or on the hub.

QQP's files carry no CSV quoting, PAWS was written with it (the default of Python's csv module).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness_plugin.data.dataset import DataRequest, Purpose, TaskData
from harness_plugin.data.hub import load_hub, load_local
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import data_folder, find, hub_copy, missing, require_splits
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks._shared.text.tables import (
    Column,
    Table,
    hub_columns,
    nli_table,
    read_columns,
    row_variants,
)
from harness_plugin_tasks.qqp_paws.questions import LABELS, overlap_splits

if TYPE_CHECKING:
    import datasets

GLUE, GLUE_REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
PAWS, PAWS_REVISION = "google-research-datasets/paws", "161ece9501cf0a11f3e48bd356eaa82de46d6a09"

QQP_COLUMNS = (
    Column("question1", ("question1",)),
    Column("question2", ("question2",)),
    Column("label", ("is_duplicate", "label")),
)
PAWS_COLUMNS = (
    Column("question1", ("sentence1",)),
    Column("question2", ("sentence2",)),
    Column("label", ("label",)),
    Column("id", ("id",), required=False),
)
NUMBERS = dict(zip("01", LABELS, strict=True))
"""How GLUE's files and PAWS write the labels; 1 is a paraphrase in both."""

ROWS = {
    "QQP/train": 363_846,
    "QQP/dev": 40_430,
    "paws_wiki": 8_000,
    "paws_qqp": 677,
}
Tables = dict[tuple[str, Purpose], Table]


def from_hub(request: DataRequest) -> TaskData:
    """QQP and PAWS-Wiki from the hub, pinned. PAWS-QQP is not there: users generate it from QQP.

    Raises HarnessError when the hub cannot be reached, and for columns that are not as known.
    """
    qqp = load_hub(GLUE, "qqp", revision=GLUE_REVISION)
    paws = load_hub(PAWS, "labeled_final", revision=PAWS_REVISION)
    tables: Tables = {
        **glue_tables(qqp, GLUE, request),
        ("paws_wiki", "ood"): paws_test(paws, PAWS),
    }
    return task_data(request, tables)


def from_folder(request: DataRequest) -> TaskData:
    """QQP, PAWS-Wiki and PAWS-QQP from the files in `request.path` or in its direct subfolders.

    QQP: QQP/train.tsv and QQP/dev.tsv of GLUE, or a hub copy. PAWS-Wiki: final/test.tsv, or a hub
    copy of the configuration labeled_final. PAWS-QQP: dev_and_test.tsv. One of the two PAWS is
    enough.

    Raises HarnessError naming the file and line for anything missing or malformed.
    """
    root = data_folder(request)
    tables = qqp_in(root, request)
    if file := find(root, ["final/test.tsv"]):
        tables["paws_wiki", "ood"] = read_paws(file, "paws_wiki")
    elif copy := hub_copy(root, {"sentence1", "sentence2", "label"}.issubset):
        tables["paws_wiki", "ood"] = paws_test(load_local(copy, "labeled_final"), str(copy))
    if file := find(root, ["dev_and_test.tsv"]):
        tables["paws_qqp", "ood"] = read_paws(file, "paws_qqp")
    if not any(purpose == "ood" for _, purpose in tables):
        raise missing(
            root,
            ["final/test.tsv", "dev_and_test.tsv"],
            ", nor a folder in it with a hub copy of PAWS (columns sentence1, sentence2, label)",
        )
    return task_data(request, tables)


def task_data(request: DataRequest, tables: Tables) -> TaskData:
    """The splits of all tables, and a note for every count that is not the release's."""
    splits, note = overlap_splits(request, tables)
    return TaskData(
        "qqp_paws", request.source, splits, (note, *row_variants(tables.values(), ROWS))
    )


QQP_FILES: dict[str, tuple[str, Purpose]] = {
    "QQP/train": ("train", "train"),
    "QQP/dev": ("id", "in_domain"),
}


def reads_training(request: DataRequest) -> bool:
    """Whether training pairs are needed: to train, or for the overlap above which it is high."""
    return request.trains or request.options["high_overlap"] is None


def qqp_in(root: Path, request: DataRequest) -> Tables:
    """Training and in-domain pairs of QQP under `root`; what is there, where nothing is trained."""
    # the folder of the two files may be given itself
    above = root.parent if root.name == "QQP" else root
    needed = [name for name in QQP_FILES if name != "QQP/train" or reads_training(request)]
    files = {name: file for name in needed if (file := find(above, [f"{name}.tsv"]))}
    if files and (len(files) == len(needed) or not request.trains):
        return {QQP_FILES[name]: read_qqp(file, name) for name, file in files.items()}
    if copy := hub_copy(root, {"question1", "question2", "label"}.issubset):
        return glue_tables(load_local(copy, "qqp"), str(copy), request)
    if not request.trains:
        return {}
    absent = [f"{name}.tsv" for name in needed if name not in files]
    raise missing(
        root,
        absent,
        ", nor a folder in it with a hub copy of QQP (columns question1, question2, label)",
    )


def read_qqp(file: Path, name: str) -> Table:
    """Pairs of a .tsv of GLUE. Raises HarnessError naming file and line."""
    columns = read_columns(file, QQP_COLUMNS)
    # GLUE's numbers repeat in no file, but they are not those of the hub
    columns["id"] = [""] * len(columns["label"])
    return labelled(name, str(file), columns)


def read_paws(file: Path, name: str) -> Table:
    """Pairs of a .tsv of PAWS; PAWS-QQP writes its texts as literals of bytes.

    Raises HarnessError naming file and line.
    """
    read = read_quoted(file, ("id", "sentence1", "sentence2", "label"))
    columns = {
        "question1": [text_of(t, f"{file}: row {i}") for i, t in enumerate(read["sentence1"], 1)],
        "question2": [text_of(t, f"{file}: row {i}") for i, t in enumerate(read["sentence2"], 1)],
        "label": read["label"],
        "id": read["id"],
    }
    return labelled(name, str(file), columns)


def text_of(text: str, where: str) -> str:
    """A text as it is, or the text that a literal such as b'caf\\xc3\\xa9' stands for."""
    if text[:2] not in ("b'", 'b"') or text[-1] != text[1]:
        return text
    try:
        return str(ast.literal_eval(text), "utf-8")
    except (SyntaxError, ValueError, TypeError):
        raise HarnessError(f"{where}: {text[:40]} is no literal of UTF-8 bytes.") from None


def glue_tables(loaded: datasets.DatasetDict, where: str, request: DataRequest) -> Tables:
    """Training and validation pairs of QQP in the hub's layout; its test set has no labels."""
    tables: Tables = {}
    if reads_training(request):
        tables["train", "train"] = hub_table(loaded, "train", "QQP/train", QQP_COLUMNS, where)
    tables["id", "in_domain"] = hub_table(loaded, "validation", "QQP/dev", QQP_COLUMNS, where)
    return tables


def paws_test(loaded: datasets.DatasetDict, where: str) -> Table:
    """The test pairs of PAWS-Wiki in the hub's layout."""
    return hub_table(loaded, "test", "paws_wiki", PAWS_COLUMNS, where)


def hub_table(
    loaded: datasets.DatasetDict, split: str, name: str, schema: Sequence[Column], where: str
) -> Table:
    """One hub split."""
    require_splits(loaded, [split], where)
    columns = hub_columns(loaded[split], schema, f"{where}, {split}")
    texts = {key: [str(value) for value in values] for key, values in columns.items()}
    return labelled(name, f"{where}, split {split!r}", {"id": [""] * len(loaded[split]), **texts})


def labelled(name: str, where: str, columns: dict[str, list[str]]) -> Table:
    """A checked table with ids, labels by their names."""
    columns["label"] = [NUMBERS.get(label, label) for label in columns["label"]]
    return nli_table(name, where, columns, LABELS)
