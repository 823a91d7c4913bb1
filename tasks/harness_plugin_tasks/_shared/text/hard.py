"""Hard pairs: those whose label the hypothesis alone does not give away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import (
    ALIGNED,
    CONFLICTING,
    MISSING_LABELS,
    DataRequest,
    Split,
    TaskData,
)
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.hypothesis_only import FOLDS, classifier, cross_fitted
from harness_plugin_tasks._shared.text.nli_hub import Corpus, Training, from_hub
from harness_plugin_tasks._shared.text.splits import concatenated, empty_cells, table_split
from harness_plugin_tasks._shared.text.tables import Table

DIFFICULTY = "difficulty"
OFFICIAL = ("easy", "hard")
AUTO = ("auto_easy", "auto_hard")
"""Names of easy and hard in groups and breakdowns; an automatic subset is ours."""

SUBSETS = {"id": "hard", "id_mismatched": "hard_mismatched"}
"""The split of the hard pairs of each in-domain split."""


class Judged(NamedTuple):
    """Labelled pairs, which of them are hard, and how that was found.

    `is_hard` (N,) is None where a released hard set has none of the pairs: then only that set,
    `hard`, is known to be hard.
    """

    table: Table
    is_hard: tuple[bool, ...] | None
    hard: Table
    values: tuple[str, str]
    note: str


def hard_from_hub(request: DataRequest, corpus: Corpus, lacking: str) -> TaskData:
    """A corpus of the hub, which has no hard subset: it is judged by a model of ours.

    Raises HarnessError for the option hard=official, with what is `lacking` and what to do, and as
    `nli_hub.from_hub`.
    """
    if request.options["hard"] == "official":
        raise HarnessError(f"{request.task.task}: the hub has {lacking}.")
    return hard_data(request, from_hub(corpus, request), {})


def hard_data(request: DataRequest, corpus: Training, official: Mapping[str, Table]) -> TaskData:
    """`train`, `validation` where there is one, and each in-domain split with its hard subset.

    `official` are the released hard sets by in-domain split; a split without one is judged by a
    hypothesis-only model. In-domain groups are label x easy or hard, training rows have none.
    Raises HarnessError as `make_split` and `cross_fitted` do.
    """
    splits = []
    if corpus.train:
        splits.append(table_split("train", purpose="train", table=concatenated(corpus.train)))
    notes = [*corpus.notes]
    if corpus.validation:
        table = concatenated(corpus.validation)
        splits.append(table_split("validation", purpose="validation", table=table))
    for name, tables in corpus.in_domain.items():
        whole = labelled(concatenated(tables))
        if name in official:
            judged = by_release(whole, labelled(official[name]))
        else:
            judged = by_model(whole, [labelled(table) for table in corpus.validation])
        whole_split, hard_split = judged_splits(name, judged)
        splits += [whole_split, hard_split]
        notes.append(f"{name}: {judged.note}")
        if judged.is_hard is not None:
            notes += empty_cells(whole_split, judged.values)
    return TaskData(
        request.task.task, request.source, {split.name: split for split in splits}, tuple(notes)
    )


def labelled(table: Table) -> Table:
    """The rows whose label is not missing."""
    labels = table.columns["label"]
    return table.select([i for i, label in enumerate(labels) if label not in MISSING_LABELS])


def by_release(table: Table, hard: Table) -> Judged:
    """Hard are the pairs of a released set, found by their sentences and label.

    Sentences say enough: whether a hypothesis-only model is wrong is the same for equal pairs.
    """
    listed = set(examples(hard))
    is_hard = tuple(example in listed for example in examples(table))
    note = f"{sum(is_hard):,} of {len(table):,} pairs are among the {len(hard):,} of {hard.where}"
    if not any(is_hard):
        return Judged(table, None, hard, OFFICIAL, f"{note}; no groups of easy and hard")
    return Judged(table, is_hard, hard, OFFICIAL, note)


def examples(table: Table) -> list[tuple[str, str, str]]:
    """(premise, hypothesis, label) of every row."""
    columns = table.columns
    return list(zip(columns["premise"], columns["hypothesis"], columns["label"], strict=True))


def by_model(table: Table, other: list[Table]) -> Judged:
    """Hard are the pairs that a hypothesis-only model gets wrong which was not fitted on them.

    It is fitted on `other` rows where there are some, else on nine tenths at a time.
    """
    columns = table.columns
    if other:
        fitted_on = concatenated(other)
        model = classifier().fit(fitted_on.columns["hypothesis"], fitted_on.columns["label"])
        predicted = model.predict(columns["hypothesis"])
        how = f"fitted on {fitted_on.where}"
    else:
        fitted = cross_fitted(columns["hypothesis"], columns["label"], table.where)
        predicted = np.asarray(sorted(set(columns["label"])))[fitted.argmax(axis=1)]
        how = f"cross-fitted on {FOLDS} folds"
    is_hard = tuple((predicted != np.asarray(columns["label"])).tolist())
    note = (
        f"auto: our hypothesis-only model, {how}, is right on {1 - np.mean(is_hard):.3f} of the "
        f"pairs; the other {sum(is_hard):,} of {len(table):,} are called hard, no released subset"
    )
    hard = table.select(np.flatnonzero(is_hard).tolist())
    return Judged(table, is_hard, hard, AUTO, note)


def judged_splits(name: str, judged: Judged) -> tuple[Split, Split]:
    """An in-domain split with groups label x easy or hard, and the set of its hard pairs.

    A hypothesis-only model points to the label of easy pairs and away from that of hard ones.
    """
    easy, hard = judged.values
    whole = table_split(name, purpose="in_domain", table=judged.table)
    if judged.is_hard is not None:
        values = [hard if is_hard else easy for is_hard in judged.is_hard]
        aligned = [CONFLICTING if is_hard else ALIGNED for is_hard in judged.is_hard]
        whole = table_split(
            name,
            purpose="in_domain",
            table=judged.table,
            attributes=values,
            values=judged.values,
            aligned=aligned,
            breakdowns={DIFFICULTY: values},
        )
    rows = len(judged.hard)
    subset = table_split(
        SUBSETS[name],
        purpose="ood",
        table=judged.hard,
        labels=NLI_LABELS,
        attributes=[hard] * rows,
        values=judged.values,
        aligned=[CONFLICTING] * rows,
        breakdowns={DIFFICULTY: [hard] * rows},
    )
    return whole, subset
