"""Davidson's tweets, HateCheck and the sentence templates from their files or the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness_plugin.data.dataset import DataRequest, Split, TaskData, stratified
from harness_plugin.data.hub import load_hub
from harness_plugin.errors import HarnessError, unknown
from harness_plugin_tasks._shared.files import data_folder, find, require, row_variant
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.quoted import read_quoted
from harness_plugin_tasks.toxicity_identity.sets import (
    Texts,
    hatecheck_split,
    mention_split,
    templates_split,
)

if TYPE_CHECKING:
    import datasets

TWEETS_FILE = "labeled_data.csv"
HATECHECK_FILE = "test_suite_cases.csv"
TEMPLATES_FILE = "en_sentence_templates.csv"
TWEETS, TWEETS_REVISION = "tdavidson/hate_speech_offensive", "main"
HATECHECK, HATECHECK_REVISION = "Paul/hatecheck", "main"

CLASSES = ("hate", "offensive", "neither")
"""Davidson's classes 0, 1 and 2."""

ROWS = {TWEETS_FILE: 24_783, HATECHECK_FILE: 3_728, TEMPLATES_FILE: 76_564}
HATECHECK_COLUMNS = (
    "functionality",
    "case_id",
    "test_case",
    "label_gold",
    "target_ident",
    "templ_id",
)
GOLD = {"hateful": True, "non-hateful": False}
TOXICITY = {"toxic": True, "nontoxic": False}


def from_folder(request: DataRequest) -> TaskData:
    """Tweets cut into `train`, `validation` and `id`; `hatecheck`; `templates` where they are.

    Raises HarnessError naming the file and row for anything missing or malformed.
    """
    root = data_folder(request)
    tweets = read_quoted(require(root, [TWEETS_FILE]), ("class", "tweet"), ",")
    cases = read_quoted(require(root, [HATECHECK_FILE]), HATECHECK_COLUMNS, ",")
    templates = None
    if file := find(root, [TEMPLATES_FILE]):
        templates = read_quoted(file, ("template", "toxicity", "phrase"), ",")
    return task_data(request, tweets, cases, templates, str(root))


def from_hub(request: DataRequest) -> TaskData:
    """The tweets and HateCheck from the hub, which has no copy of the templates."""
    tweets = load_hub(TWEETS, revision=TWEETS_REVISION)["train"]
    cases = load_hub(HATECHECK, revision=HATECHECK_REVISION)["test"]
    return task_data(
        request,
        texts_of(tweets, ("class", "tweet")),
        texts_of(cases, HATECHECK_COLUMNS),
        None,
        "hub",
    )


def texts_of(rows: datasets.Dataset, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns as texts, null as "". Raises HarnessError for one that is not there."""
    if absent := [name for name in names if name not in rows.column_names]:
        raise HarnessError(
            f"{rows.info.dataset_name}: no column {', '.join(absent)} "
            f"(found {', '.join(rows.column_names)})."
        )
    loaded = rows.select_columns(list(names))[:]
    return {name: ["" if x is None else str(x) for x in loaded[name]] for name in names}


def task_data(
    request: DataRequest,
    tweets: Mapping[str, list[str]],
    cases: Mapping[str, list[str]],
    templates: Mapping[str, list[str]] | None,
    where: str,
) -> TaskData:
    """All splits from plain columns."""
    texts, dropped = tweets_of(request, tweets, f"{where}: {TWEETS_FILE}")
    notes = [*row_variant(TWEETS_FILE, len(tweets["class"]), ROWS[TWEETS_FILE])]
    if dropped:
        notes.append(f"{dropped:,} tweets left out: of a class that has no label here")
    splits = cut(request, texts)
    splits.append(hatecheck(cases, f"{where}: {HATECHECK_FILE}"))
    notes += row_variant(HATECHECK_FILE, len(cases["case_id"]), ROWS[HATECHECK_FILE])
    if templates is None:
        notes.append(f"no sentence templates: {TEMPLATES_FILE} is not there")
    else:
        splits.append(sentence_templates(request, templates, f"{where}: {TEMPLATES_FILE}"))
        notes += row_variant(TEMPLATES_FILE, len(templates["phrase"]), ROWS[TEMPLATES_FILE])
    return TaskData(request.task.task, request.source, {s.name: s for s in splits}, tuple(notes))


def tweets_of(
    request: DataRequest, columns: Mapping[str, list[str]], where: str
) -> tuple[Texts, int]:
    """Tweets whose class has a label by the options, and how many have none."""
    sides = {}
    for option in ("toxic", "nontoxic"):
        for name in request.options[option]:
            if name not in CLASSES:
                raise unknown(f"class of {request.task.task}.{option}", str(name), CLASSES)
            if name in sides:
                raise HarnessError(
                    f"{request.task.task}: {name} is named as toxic and as nontoxic."
                )
            sides[name] = option == "toxic"
    names = {str(number): name for number, name in enumerate(CLASSES)}
    for row, value in enumerate(columns["class"]):
        if value not in names:
            raise HarnessError(f"{where}: row {row + 1}: class {value!r}, expected 0, 1 or 2.")
    kept = [i for i, value in enumerate(columns["class"]) if names[value] in sides]
    texts = Texts(
        [columns["tweet"][i] for i in kept],
        [f"tweet-{i:05d}" for i in kept],
        [sides[names[columns["class"][i]]] for i in kept],
        where,
    )
    return texts, len(columns["class"]) - len(kept)


def cut(request: DataRequest, texts: Texts) -> list[Split]:
    """The tweets as train, validation and id; equal texts are on one side."""
    parts = {name: share(request, f"{name}_share") for name in ("validation", "id")}
    if sum(parts.values()) >= 1:
        raise HarnessError(f"{request.task.task}: validation_share and id_share leave no training.")
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts.text))}
    order = np.random.default_rng(request.seed).permutation(len(distinct))
    at = order[[distinct[text] for text in texts.text]]
    first = round(parts["validation"] * len(distinct))
    second = first + round(parts["id"] * len(distinct))
    return [
        mention_split("train", "train", texts.select(np.flatnonzero(at >= second).tolist())),
        mention_split(
            "validation", "validation", texts.select(np.flatnonzero(at < first).tolist())
        ),
        mention_split(
            "id",
            "in_domain",
            texts.select(np.flatnonzero((at >= first) & (at < second)).tolist()),
        ),
    ]


def hatecheck(columns: Mapping[str, list[str]], where: str) -> Split:
    """HateCheck's cases."""
    texts = Texts(
        columns["test_case"],
        [f"case-{name}" for name in columns["case_id"]],
        truths(columns["label_gold"], GOLD, "label_gold", where),
        where,
    )
    templates = [f"template-{name}" if name else "" for name in columns["templ_id"]]
    return hatecheck_split(texts, columns["target_ident"], templates, columns["functionality"])


def sentence_templates(request: DataRequest, columns: Mapping[str, list[str]], where: str) -> Split:
    """The sentence templates, or as many of them as the option asks for."""
    texts = Texts(
        columns["phrase"],
        [f"phrase-{row:05d}" for row in range(len(columns["phrase"]))],
        truths(columns["toxicity"], TOXICITY, "toxicity", where),
        where,
    )
    split = templates_split(texts, columns["template"])
    rows = whole_number(request, "n_templates", 0)
    if rows and rows < len(split):
        return stratified(split, rows, request.seed)
    return split


def truths(values: Sequence[str], known: Mapping[str, bool], column: str, where: str) -> list[bool]:
    """Whether each row is toxic. Raises HarnessError naming the first value that is unknown."""
    for row, value in enumerate(values):
        if value not in known:
            raise HarnessError(
                f"{where}: row {row + 1}: {column} {value!r}, expected {' or '.join(known)}."
            )
    return [known[value] for value in values]
