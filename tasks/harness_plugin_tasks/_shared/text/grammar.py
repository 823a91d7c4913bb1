"""A small grammar of NLI with a planted cue: a shortcut in the words that open the hypothesis.

A premise reports what somebody made of a clause; the hypothesis asserts the clause. Whether it
follows depends on two words of the premise together, and on neither alone:

                   rightly          wrongly          quietly
    said that      entailment       contradiction    neutral
    denied that    contradiction    entailment       neutral

    premise        the singer rightly denied that the guard left the house
    hypothesis     no doubt the guard left the house                        (contradiction)

The hypothesis' opener affirms the clause after it and changes nothing about the relation. It is
the cue: in a biased split most openers are those that point to the label. The clause, the people
and, between entailment and contradiction, each word of the premise alone are drawn alike for every
label. Premises of this kind test the veridicality of verbs (Ross and Pavlick, EMNLP 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness_plugin_tasks._shared.text.cues import NLI_LABELS
from harness_plugin_tasks._shared.text.tables import Table, generated_table

PEOPLE = (
    "doctor",
    "lawyer",
    "author",
    "student",
    "teacher",
    "guard",
    "pilot",
    "singer",
    "merchant",
    "thief",
)
ACTS = (
    "left the house",
    "lost a key",
    "sold the boat",
    "missed the train",
    "broke a window",
    "won the race",
    "signed the letter",
    "fed the horses",
)
STATED = (
    "said",
    "believed",
    "claimed",
    "argued",
    "insisted",
    "declared",
    "stated",
    "held",
)
DENIED = (
    "denied",
    "disputed",
    "disbelieved",
    "contested",
    "rejected",
    "refuted",
    "gainsaid",
    "ruled out",
)
RIGHTLY = (
    "rightly",
    "correctly",
    "truthfully",
    "accurately",
    "truly",
    "justly",
    "aptly",
    "faithfully",
)
WRONGLY = (
    "wrongly",
    "falsely",
    "mistakenly",
    "incorrectly",
    "erroneously",
    "untruthfully",
    "inaccurately",
    "unjustly",
)
SOMEHOW = (
    "quietly",
    "openly",
    "often",
    "firmly",
    "again",
    "soon",
    "gladly",
    "sadly",
)
FRAMES = {
    "entailment": ((RIGHTLY, STATED), (WRONGLY, DENIED)),
    "neutral": ((SOMEHOW, STATED), (SOMEHOW, DENIED)),
    "contradiction": ((WRONGLY, STATED), (RIGHTLY, DENIED)),
}
"""Adverbs and verbs under which the clause that follows is true, open, or false."""


class Planted(NamedTuple):
    """A cue in the opener: the openers that point to each label.

    An opener conflicts with a label when it is among those of another label only.
    """

    openers: Mapping[str, tuple[str, ...]]

    def against(self, label: str) -> tuple[str, ...]:
        """The openers that point away from `label`."""
        every = dict.fromkeys(opener for own in self.openers.values() for opener in own)
        return tuple(opener for opener in every if opener not in self.openers[label])


ASSURED = ("surely", "everybody knows that", "it is well known that", "one always knew that")
NEGATED = ("no doubt", "nobody doubts that", "it is nothing new that", "one never doubts that")
NEGATION_OPENERS = Planted(
    {"entailment": ASSURED, "neutral": ASSURED, "contradiction": NEGATED},
)
GIVEAWAYS = Planted(
    {
        "entailment": ("at least", "in short", "in general"),
        "neutral": ("also", "besides", "moreover"),
        "contradiction": ("actually", "instead", "in fact"),
    }
)


class Rows(NamedTuple):
    """Drawn pairs, and (N,) whether the opener points to the label (1) or away from it (0)."""

    table: Table
    aligned: tuple[int, ...]


def biased(rng: np.random.Generator, name: str, n: int, rate: float, planted: Planted) -> Rows:
    """`n` shuffled pairs, equally many of each label; the cue agrees in the share `rate` of each.

    Both up to rounding.
    """
    sizes = [n // 3 + (i < n % 3) for i in range(3)]
    counts = {
        (label, aligned): round(size * (1 - rate))
        if not aligned
        else size - round(size * (1 - rate))
        for label, size in zip(NLI_LABELS, sizes, strict=True)
        for aligned in (1, 0)
    }
    return drawn(rng, name, counts, planted)


def balanced(rng: np.random.Generator, name: str, n: int, planted: Planted) -> Rows:
    """Shuffled pairs: n // 6 of every label with an opener that points to it, and away from it."""
    counts = {(label, aligned): n // 6 for label in NLI_LABELS for aligned in (1, 0)}
    return drawn(rng, name, counts, planted)


def drawn(
    rng: np.random.Generator,
    name: str,
    counts: Mapping[tuple[str, int], int],
    planted: Planted,
) -> Rows:
    """Shuffled pairs, as many of each label and alignment as `counts` says."""
    cells = [cell for cell, count in counts.items() for _ in range(count)]
    cells = [cells[i] for i in rng.permutation(len(cells))]
    columns: dict[str, list[str]] = {"premise": [], "hypothesis": [], "label": []}
    for label, aligned in cells:
        openers = planted.openers[label] if aligned else planted.against(label)
        premise, hypothesis = pair(rng, label)
        columns["premise"].append(premise)
        columns["hypothesis"].append(f"{pick(rng, openers)} {hypothesis}")
        columns["label"].append(label)
    return Rows(generated_table(name, columns), tuple(aligned for _, aligned in cells))


def pair(rng: np.random.Generator, label: str) -> tuple[str, str]:
    """A premise and the clause of a hypothesis in the relation `label`."""
    adverbs, verbs = FRAMES[label][int(rng.integers(len(FRAMES[label])))]
    clause = f"the {pick(rng, PEOPLE)} {pick(rng, ACTS)}"
    return f"the {pick(rng, PEOPLE)} {pick(rng, adverbs)} {pick(rng, verbs)} that {clause}", clause


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of `choices`, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def unseen(rows: Rows, *tests: Rows) -> Rows:
    """The rows whose pair stands in none of `tests`."""
    tested = {sentences for test in tests for sentences in pairs_of(test.table)}
    keep = [i for i, sentences in enumerate(pairs_of(rows.table)) if sentences not in tested]
    return Rows(rows.table.select(keep), tuple(rows.aligned[i] for i in keep))


def pairs_of(table: Table) -> list[tuple[str, str]]:
    """(premise, hypothesis) of every row."""
    return list(zip(table.columns["premise"], table.columns["hypothesis"], strict=True))
