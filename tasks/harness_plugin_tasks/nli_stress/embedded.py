"""The embedded source: generated pairs, and our own distortions of such pairs.

The tautologies are those of Naik et al. (2018); every distortion leaves the label as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.options import whole_number
from harness_plugin_tasks._shared.text import grammar
from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.nli_embedded import planted_data
from harness_plugin_tasks._shared.text.splits import cue_split
from harness_plugin_tasks._shared.text.tables import Table
from harness_plugin_tasks.nli_stress.categories import CUE, Test, stress_split

ASSURED = ("it is true that", "truly", "everybody knows that", "it is well known that")
NEGATED = ("it is not false that", "not surprisingly", "no doubt", "nobody doubts that")
OPENERS = grammar.Planted({"entailment": ASSURED, "neutral": ASSURED, "contradiction": NEGATED})


class Pair(NamedTuple):
    """The two sentences that a distortion is applied to."""

    premise: str
    hypothesis: str


def swapped(rng: np.random.Generator, sentence: str) -> str:
    """`sentence` with two neighbouring letters of one longer word exchanged, never the first."""
    words = sentence.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3]
    at = long[int(rng.integers(len(long)))]
    word = words[at]
    letter = 1 + int(rng.integers(len(word) - 2))
    words[at] = word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :]
    return " ".join(words)


DISTORTIONS: Mapping[str, Callable[[np.random.Generator, Pair], Pair]] = {
    "length_mismatch": lambda rng, pair: Pair(
        pair.premise + " and true is true" * 5, pair.hypothesis
    ),
    "negation": lambda rng, pair: Pair(pair.premise, pair.hypothesis + " and false is not true"),
    "spelling_swap": lambda rng, pair: Pair(pair.premise, swapped(rng, pair.hypothesis)),
    "word_overlap": lambda rng, pair: Pair(pair.premise, pair.hypothesis + " and true is true"),
}


def load(request: DataRequest) -> TaskData:
    """The splits of `nli.embedded.planted_data`, groups label x negation, and `stress`.

    Every distortion is applied to the same pairs, `n_stress` in all, equally many of each label
    and none with a negation of its own. Raises HarnessError for sizes that leave a group empty.
    """
    per_label = whole_number(request, "n_stress") // (len(DISTORTIONS) * len(NLI_LABELS))
    if not per_label:
        raise HarnessError(
            f"nli_stress.n_stress must be at least {len(DISTORTIONS) * len(NLI_LABELS)}, one pair "
            "a group."
        )

    def stress(rng: np.random.Generator) -> list[tuple[grammar.Rows, Split]]:
        drawing, *streams = rng.spawn(1 + len(DISTORTIONS))
        counts = {(label, int(label != "contradiction")): per_label for label in NLI_LABELS}
        rows = grammar.drawn(drawing, "stress", counts, OPENERS)
        tests = [
            Test(name, "", distorted(rows.table, name, stream))
            for name, stream in zip(DISTORTIONS, streams, strict=True)
        ]
        return [(rows, stress_split(tests))]

    return planted_data(request, OPENERS, negation_split, stress)


def distorted(table: Table, name: str, rng: np.random.Generator) -> Table:
    """The pairs of `table` under one distortion; an id is the distortion's name with the old id."""
    pairs = [
        DISTORTIONS[name](rng, Pair(premise, hypothesis))
        for premise, hypothesis in grammar.pairs_of(table)
    ]
    columns = {
        "premise": [pair.premise for pair in pairs],
        "hypothesis": [pair.hypothesis for pair in pairs],
        "label": table.columns["label"],
        "id": [f"{name}:{row}" for row in table.columns["id"]],
    }
    return Table(name, name, columns)


def negation_split(name: str, purpose: Purpose, rows: grammar.Rows) -> Split:
    """A split whose groups are read off its sentences."""
    return cue_split(name, purpose=purpose, table=rows.table, cue=CUE)
