"""NLI corpora from the hub, or from copies of hub repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness_plugin.data.dataset import DataRequest
from harness_plugin.data.hub import load_hub
from harness_plugin_tasks._shared.files import require_splits
from harness_plugin_tasks._shared.text.splits import RELEASED_ROWS
from harness_plugin_tasks._shared.text.tables import Table, nli_from_hub, row_variants

if TYPE_CHECKING:
    import datasets


class Corpus(NamedTuple):
    """An NLI corpus as the hub has it.

    `in_domain` and `validation` say which of its splits are ours, by our name and by its own;
    `tables` under which name its splits are released (default: the split's own name).
    """

    repository: str
    revision: str
    in_domain: Mapping[str, str]
    tables: Mapping[str, str]
    validation: str = ""

    @property
    def needed(self) -> set[str]:
        """The splits that a copy must have: the first in-domain set, not the others."""
        return {"train", *list(self.in_domain.values())[:1], *filter(None, [self.validation])}


MULTINLI = Corpus(
    "nyu-mll/multi_nli",
    "da70db2af9d09693783c3320c4249840212ee221",
    {"id": "validation_matched", "id_mismatched": "validation_mismatched"},
    {
        "train": "multinli_1.0_train",
        "validation_matched": "multinli_1.0_dev_matched",
        "validation_mismatched": "multinli_1.0_dev_mismatched",
    },
)
SNLI = Corpus(
    "stanfordnlp/snli",
    "cdb5c3d5eed6ead6e5a341c8e56e669bb666725b",
    {"id": "test"},
    {"train": "snli_1.0_train", "validation": "snli_1.0_dev", "test": "snli_1.0_test"},
    "validation",
)
ANY_NLI = Corpus("", "", {"id": "validation"}, {})
"""A corpus of another name; it is only read from copies."""


class Training(NamedTuple):
    """The training rows, the in-domain sets by split name, and notes on both.

    `train` is empty where nothing is trained.
    `validation` are the rows of a released set that is neither.
    """

    train: list[Table]
    in_domain: dict[str, list[Table]]
    notes: list[str]
    validation: Sequence[Table] = ()


def from_hub(corpus: Corpus, request: DataRequest) -> Training:
    """The rows of `corpus` at its pinned revision, without training rows where nothing is trained.

    Raises HarnessError when the hub cannot be reached, and for columns that are not as known.
    """
    loaded = load_hub(corpus.repository, revision=corpus.revision)
    return of_corpus(loaded, corpus.repository, corpus, training=request.trains)


def corpus_of(loaded: datasets.DatasetDict, corpora: Sequence[Corpus]) -> Corpus:
    """The first of `corpora` whose splits `loaded` has, else the last."""
    return next((corpus for corpus in corpora if corpus.needed <= {*loaded}), corpora[-1])


def of_corpus(
    loaded: datasets.DatasetDict, where: str, corpus: Corpus, *, training: bool = True
) -> Training:
    """Training, in-domain and validation rows of `corpus` as `datasets` loaded it.

    Without `training` the in-domain rows alone.
    """
    require_splits(loaded, corpus.needed, where)

    def table(split: str) -> Table:
        name = corpus.tables.get(split, split)
        return nli_from_hub(loaded[split], name, f"{where}, split {split!r}")

    train = [table("train")] if training else []
    there = {name: split for name, split in corpus.in_domain.items() if split in loaded}
    in_domain = {name: [table(split)] for name, split in there.items()}
    validation = [table(corpus.validation)] if training and corpus.validation else []
    read = [*train, *(table for (table,) in in_domain.values()), *validation]
    notes = row_variants(read, RELEASED_ROWS)
    return Training(train, in_domain, notes, validation)
