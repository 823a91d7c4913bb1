"""The challenge sets: how each is read, and what its groups, cues and clusters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import ALIGNED, CONFLICTING, UNDEFINED, Split, make_split
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.files import require
from harness_plugin_tasks._shared.text.cues import NEGATION_CUE, NLI_LABELS, OVERLAP_CUE
from harness_plugin_tasks._shared.text.splits import cue_split, table_split
from harness_plugin_tasks._shared.text.tables import (
    NLI_COLUMNS,
    Column,
    Table,
    nli_table,
    read_columns,
)
from harness_plugin_tasks.hans.evaluation import HANS_LABELS, released_split
from harness_plugin_tasks.hans.tables import read_hans
from harness_plugin_tasks.nli_challenge.corpora import MED, NEGATION, read_layout, read_pairs

HANS_FILE = "heuristics_evaluation_set.txt"
HANS_TRAINING_FILE = "heuristics_train_set.txt"
CONJNLI_FILE = "conj_dev.tsv"
NEGATION_FILES = ("MNLI.txt", "SNLI.txt")
MED_FILE = "MED.tsv"
BREAKING_FILES = ("breaking_nli/data/dataset.jsonl", "data/dataset.jsonl", "dataset.jsonl")
NEGATED = ("premise", "hypothesis", "both")
"""Which sentence of a pair got a negation: the three rows that are made of one pair, in order."""

DIRECTIONS = ("upward", "downward", "non", "mixed")
"""Of MED's tags: monotonicity of the place in which a phrase was replaced; several, or none."""

MED_COLLAPSE = {"entailment": "entailment", "neutral": "neutral", "contradiction": "neutral"}
"""MED calls everything neutral that does not follow."""


class ChallengeSet(NamedTuple):
    """One set: its split from a folder, and how many labelled rows the release has."""

    load: Callable[[Path], Split]
    rows: int


def hans(table: Table, by: str, rule: str) -> Split:
    """HANS, as the task `hans` has it."""
    return released_split(table.columns, by, rule, table.where)


def hans_rows(root: Path, name: str) -> Table:
    """The rows of one of the two files of HANS."""
    return read_hans(require(root, (name,)))


def drawn(table: Table, rows: int, seed: int) -> tuple[list[int], list[int]]:
    """`rows` row numbers, as many of every heuristic and label, and all others; both sorted.

    Raises HarnessError for a number that is no multiple of the cells or larger than they are.
    """
    cells = list(zip(table.columns["heuristic"], table.columns["label"], strict=True))
    kinds = sorted({*cells})
    each, rest = divmod(rows, len(kinds))
    smallest = min(cells.count(kind) for kind in kinds)
    if rest or each > smallest:
        raise HarnessError(
            f"{table.where}: cannot draw {rows} rows: a multiple of its {len(kinds)} cells of "
            f"heuristic x label up to {len(kinds) * smallest} is needed."
        )
    order = np.random.default_rng(seed).permutation(len(cells)).tolist()
    chosen = {i for kind in kinds for i in [j for j in order if cells[j] == kind][:each]}
    return sorted(chosen), [i for i in range(len(cells)) if i not in chosen]


def as_training_pairs(table: Table) -> Table:
    """HANS-like rows with the labels of NLI: what does not follow is called neutral.

    HANS does not say which of its non-entailments are contradictions; most are neither.
    """
    columns = {key: table.columns[key] for key in ("premise", "hypothesis")}
    entailment, _ = HANS_LABELS
    columns["label"] = [x if x == entailment else "neutral" for x in table.columns["label"]]
    columns["id"] = [f"heuristics_train_set:{x}" for x in table.columns["id"]]
    return Table("heuristics_train_set", table.where, columns)


def conjnli(root: Path) -> Split:
    """ConjNLI's development pairs, groups label x overlap."""
    table = read_pairs(require(root, (CONJNLI_FILE,)))
    return cue_split("conjnli", purpose="ood", table=table, cue=OVERLAP_CUE)


def negation_nli(root: Path) -> Split:
    """Pairs of MultiNLI and SNLI with a negation put into one or both sentences.

    Groups are label x negated sentence; rows of one original pair are a cluster. The cue points to
    contradiction where the hypothesis is negated.
    """
    tables = [
        read_layout(require(root, (f"negation_nli/{name}", name)), NEGATION, f"negation_{name}")
        for name in NEGATION_FILES
    ]
    negated = [NEGATED[i % 3] for table in tables for i in range(len(table))]
    columns = {key: [x for t in tables for x in t.columns[key]] for key in tables[0].columns}
    table = Table("negation_nli", str(tables[0].where), columns)
    labels = columns["label"]
    return table_split(
        "negation_nli",
        purpose="ood",
        table=table,
        attributes=negated,
        values=NEGATED,
        aligned=[
            ALIGNED if (place != "premise") == (label == "contradiction") else CONFLICTING
            for place, label in zip(negated, labels, strict=True)
        ],
        breakdowns={"corpus": [t.name[9:13].lower() for t in tables for _ in range(len(t))]},
        clusters=[f"{t.name}/{i // 3}" for t in tables for i in range(len(t))],
    )


def med(root: Path) -> Split:
    """The monotonicity entailment set, two labels; groups label x direction."""
    table = read_layout(require(root, (MED_FILE,)), MED, "med", {"genre": "genre"})
    columns = table.columns
    tags = [genre.split(":") for genre in columns["genre"]]
    directions = [direction_of(tag) for tag in tags]
    pairs = zip(directions, columns["label"], strict=True)
    group_texts = [f"{label}/{direction}" for direction, label in pairs]
    present = {*group_texts}
    labels = ("entailment", "neutral")
    return make_split(
        "med",
        purpose="ood",
        inputs={"premise": columns["premise"], "hypothesis": columns["hypothesis"]},
        ids=columns["id"],
        label_texts=columns["label"],
        labels=labels,
        attributes=directions,
        group_texts=group_texts,
        groups=tuple(g for x in labels for d in DIRECTIONS if (g := f"{x}/{d}") in present),
        # upward places are the usual ones: a model that drops words takes them all for upward
        aligned=np.full(len(tags), UNDEFINED),
        breakdowns={"source": [tag[0] for tag in tags]},
        collapse=MED_COLLAPSE,
        where=table.where,
    )


def direction_of(tags: Sequence[str]) -> str:
    """The one direction among MED's tags, "mixed" for none or several."""
    directions = [name for name in DIRECTIONS[:3] if f"{name}_monotone" in tags]
    return directions[0] if len(directions) == 1 else "mixed"


def breaking_nli(root: Path) -> Split:
    """Pairs that differ in one word; groups are the labels, entailment is what overlap points to.

    Pairs of one premise are a cluster.
    """
    file = require(root, BREAKING_FILES)
    columns = read_columns(file, (*NLI_COLUMNS, Column("category", ("category",))))
    table = nli_table("breaking_nli", str(file), columns)
    labels = table.columns["label"]
    return make_split(
        "breaking_nli",
        purpose="ood",
        inputs={key: table.columns[key] for key in ("premise", "hypothesis")},
        ids=table.columns["id"],
        label_texts=labels,
        labels=NLI_LABELS,
        group_texts=labels,
        groups=NLI_LABELS,
        aligned=[ALIGNED if label == "entailment" else CONFLICTING for label in labels],
        breakdowns={"category": table.columns["category"]},
        clusters=table.columns["premise"],
        where=table.where,
    )


def mnli_negation(tables: Sequence[Table]) -> Split:
    """The in-domain pairs again, in the groups label x negation."""
    columns = {key: [x for t in tables for x in t.columns[key]] for key in tables[0].columns}
    table = Table("mnli_negation", tables[0].where, columns)
    return cue_split("mnli_negation", purpose="ood", table=table, cue=NEGATION_CUE)


CHALLENGE_SETS = {
    "conjnli": ChallengeSet(conjnli, 623),
    "negation_nli": ChallengeSet(negation_nli, 3_000),
    "med": ChallengeSet(med, 5_382),
    "breaking_nli": ChallengeSet(breaking_nli, 8_193),
}
"""Those that need nothing but their own files."""

NAMES = ("hans", "mnli_negation", *CHALLENGE_SETS)
