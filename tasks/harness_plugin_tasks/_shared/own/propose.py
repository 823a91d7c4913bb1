"""A user's file or folder → the few lines of YAML that make it a task, with guesses to check."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from harness_plugin.data.columns import Column
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.own.examine import blank, some
from harness_plugin_tasks._shared.own.layout import PURPOSES, RESERVED
from harness_plugin_tasks._shared.own.tables import (
    DELIMITERS,
    SUFFIXES,
    Format,
    Table,
    header_of,
    read_columns,
)
from harness_plugin_tasks._shared.quoted import DELIMITERS as MARKS

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
LABELS = ("label", "labels", "target", "class", "gold_label", "y", "category", "outcome")
IDS = ("id", "uid", "guid", "key", "pairid", "example_id", "row_id")
SPLITS = ("split", "partition", "subset", "fold", "set")
ATTRIBUTES = ("attribute", "group", "gender", "sex", "race", "ethnicity", "age_group", "background")
CLUSTERS = ("cluster", "template", "user", "patient", "subject", "person", "author", "document")
MOST_CLASSES = 20
MOST_WORDS = 3
"""Words of a class's name on average; what has more is a text, however often it stands there."""
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass(frozen=True)
class Proposal:
    """The text of a task's file, and the file it is for."""

    file: Path
    text: str


def propose(path: Path) -> Proposal:
    """The task that a table, or a folder with tables or with images, seems to be.

    Raises HarnessError for what is neither, and for a table in which no label or input is seen.
    """
    if path.is_dir():
        return of_folder(path)
    if not path.is_file():
        raise HarnessError(f"{path}: no such file or folder.")
    table, form = read_any(path)
    return of_tables(path.with_suffix(".yaml"), path.stem, {"": table}, form)


def read_any(path: Path) -> tuple[Table, Format]:
    """All columns of a table, in the encoding and with the delimiter that fit."""
    if path.suffix.lower() not in SUFFIXES:
        raise HarnessError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}.")
    form = Format()
    if path.suffix.lower() in DELIMITERS:
        form = Format(encoding=encoding_of(path))
        line = "\t".join(header_of(path, Format("\t", encoding=form.encoding)))
        usual = DELIMITERS[path.suffix.lower()]
        mark = max((usual, *MARKS), key=line.count)  # the first of the most frequent
        form = Format(None if mark == usual else mark, encoding=form.encoding)
    names = header_of(path, form)
    once = [name for name in dict.fromkeys(names) if name.strip() and names.count(name) == 1]
    if len(once) < 2:
        raise HarnessError(f"{path}: expected at least a text and a label, found {some(names)}.")
    return read_columns(path, once, form), form


def encoding_of(path: Path) -> str:
    """The first of ENCODINGS in which all bytes are text."""
    content = path.read_bytes()
    for encoding in ENCODINGS:
        if encoding == "utf-16" and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise HarnessError(f"{path}: is no text.")


def of_folder(folder: Path) -> Proposal:
    """The task of a folder: a table, a table a split, or images in folders of their labels."""
    tables = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
    target = folder / f"{name_of(folder.resolve().name)}.yaml"
    named = {f.stem: f for f in tables if f.stem.lower() in PURPOSES}
    if "train" in {PURPOSES[name.lower()] for name in named}:
        read = {name: read_any(file) for name, file in named.items()}
        first = read[next(name for name in named if PURPOSES[name.lower()] == "train")]
        return of_tables(
            target, folder.resolve().name, {n: table for n, (table, _) in read.items()}, first[1]
        )
    if len(tables) == 1:
        table, form = read_any(tables[0])
        return of_tables(target, folder.resolve().name, {"": table}, form)
    if tables:
        raise HarnessError(
            f"{folder}: holds {len(tables)} tables ({some([f.name for f in tables])}); name one, "
            "or call them train.csv, test.csv and so on."
        )
    raise HarnessError(
        f"{folder}: holds no table ({', '.join(SUFFIXES)}). Images need one, with the columns "
        "file, label, attribute and split."
    )


def of_tables(target: Path, name: str, tables: Mapping[str, Table], form: Format) -> Proposal:
    """The file of a task on one table (under ""), or on a table a split."""
    first = next(iter(tables.values()))
    columns: dict[str, Column] = {}
    for column in first.columns:
        parts = [table.columns[column] for table in tables.values() if column in table.columns]
        chunks = [chunk for part in parts for chunk in part.chunks]
        columns[column] = pc.fill_null(pa.chunked_array(chunks, pa.string()), "")
    classes = {
        column: sorted(levels)
        for column, values in columns.items()
        if 2 <= len(levels := {*values.unique().to_pylist()} - {""}) <= MOST_CLASSES
        and 2 * len(levels) <= len(values)
        and sum(len(text.split()) for text in levels) <= MOST_WORDS * len(levels)
    }

    def distinct(column: str) -> bool:
        return len(columns[column].unique()) == len(columns[column])

    left = dict.fromkeys(columns)
    image = take(left, [c for c in columns if is_images(columns[c])])
    split = "" if "" not in tables else take(left, splits_among(columns))
    key = take(left, by_name(left, IDS, distinct))
    few = [column for column in left if column in classes]
    label = take(left, by_name(few, LABELS) or few)
    if not label:
        raise HarnessError(
            f"{first.file}: no column has 2 to {MOST_CLASSES} values that could be labels (columns "
            f"{', '.join(columns)})."
        )
    cluster = take(left, by_name(left, CLUSTERS, lambda column: not distinct(column)))
    few = [column for column in left if column in classes]
    attribute = take(left, by_name(few, ATTRIBUTES) or few)
    texts = [image] if image else texts_among(left, columns)
    if not texts:
        raise HarnessError(f"{first.file}: no column of texts or images besides {label}.")
    needed = [*texts, label, *filter(None, (attribute, split, key))]
    lacking = sum(int(blank(columns[c]).sum()) for c in needed)
    lines = list(
        yaml_lines(
            {
                "task": (name_of(name), ""),
                "base": ("imagefolder_groups" if image else "csv_groups", ""),
                "table": (tables_named(tables, target.parent), ""),
                "inputs": (texts[0] if len(texts) == 1 else texts, "what the model reads"),
                "label": (label, f"what it predicts: {some(classes[label])}"),
                "attribute": (
                    attribute or None,
                    f"what it must not read the label off: {some(classes[attribute])}"
                    if attribute
                    else "no column looks like one: there are no groups",
                ),
                **optional_lines(split, key, cluster, form, lacking, "" in tables),
            },
            first.file.name,
            [c for c in left if c not in texts],
        )
    )
    below = [name for name in (label, attribute) if name in classes.get(name, ())]
    if below:  # a name that its own column holds as a value
        lines.insert(1, f"# no names in the first line? {some(below)} also stand below it")
    if not attribute:
        lines += ["recipe: {all: {method: erm}}  # methods that need groups have none here"]
    return Proposal(target, "\n".join(lines) + "\n")


def optional_lines(
    split: str, key: str, cluster: str, form: Format, lacking: int, one_table: bool
) -> dict[str, tuple[object, str]]:
    """The fields that only some tables need."""
    out: dict[str, tuple[object, str]] = {}
    if split and split != "split":
        out["split"] = (split, "the column that names each row's split")
    if not split and one_table:
        out["split"] = (dict(SHARES), "no column names splits: drawn at random")
    if key:
        out["id"] = (key, "")
    if cluster:
        out["cluster"] = (cluster, "rows of one value are not independent")
    if lacking:
        out["drop_missing"] = (True, f"{lacking:,} values are empty: their rows are left out")
    if form.delimiter is not None:
        out["delimiter"] = (form.delimiter, "")
    if form.encoding != "utf-8":
        out["encoding"] = (form.encoding, "a guess: look at letters with accents")
    return out


def yaml_lines(
    fields: Mapping[str, tuple[object, str]], file: str, others: Sequence[str]
) -> Iterator[str]:
    """A line a field, its comment behind it, under a line that asks to check them."""
    yield f"# guessed from {file}: check each line, then `harness validate` this file"
    if others:
        yield f"# columns not used: {', '.join(others)}"
    for key, (value, comment) in fields.items():
        written = yaml.safe_dump([value], default_flow_style=True, width=10**6, sort_keys=False)
        line = f"{key}: {written.strip()[1:-1]}"
        yield f"{line}  # {comment}" if comment else line


def tables_named(tables: Mapping[str, Table], folder: Path) -> object:
    """The table, or the table of each split, as the task's file names them."""
    if "" in tables:
        return tables[""].file.relative_to(folder).as_posix()
    return {name: table.file.relative_to(folder).as_posix() for name, table in tables.items()}


def name_of(text: str) -> str:
    """A task's name made of a file's."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name or "mine"


def take(left: dict[str, None], candidates: Sequence[str]) -> str:
    """The first candidate, which is no candidate for anything else; "" without one."""
    chosen = next((name for name in candidates if name in left), "")
    left.pop(chosen, None)
    return chosen


def by_name(
    columns: Iterable[str], names: Sequence[str], fits: Callable[[str], bool] = bool
) -> list[str]:
    """The columns that are called by one of `names` and fit, in the order of `names`."""
    known = {column.lower(): column for column in columns}
    return [known[name] for name in names if name in known and fits(known[name])]


def is_images(column: Column) -> bool:
    """Whether all values are names of image files."""
    names = column.slice(0, 1000).to_pylist()
    return all(name.lower().endswith(IMAGES) for name in names if name) and any(names)


def splits_among(columns: Mapping[str, Column]) -> list[str]:
    """The columns whose values say what their rows are for."""
    return [
        name
        for name, values in columns.items()
        if (levels := {text.strip().lower() for text in values.unique().to_pylist()} - {""})
        and levels <= {*PURPOSES}
        and {PURPOSES[text] for text in levels} >= {"train"}
    ]


def texts_among(left: Iterable[str], columns: Mapping[str, Column]) -> list[str]:
    """A pair of text columns that are called so, else the column of the longest texts."""
    known = {name.lower(): name for name in left}
    for pair in PAIRS:
        if {*pair} <= {*known}:
            return [known[name] for name in pair]
    usable = [name for name in left if name not in RESERVED]
    length = {name: pc.mean(pc.utf8_length(columns[name])).as_py() or 0.0 for name in usable}
    return [max(usable, key=length.__getitem__)] if usable else []
