"""The embedded source: generated questions with an overlap cue, and a test of swapped words.

A question asks whether one person does something to another somewhere. Two questions are
duplicates if they ask the same: in the same words, or with a synonym for every one of them. They
are not if they ask of other people and deeds, or if the two people are swapped, which leaves the
words the same. In training, duplicates mostly share their words and other pairs do not; in the
test, as in PAWS (Zhang et al. 2019), all pairs share their words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import planted_cues
from harness_plugin_tasks._shared.text.tables import Table, generated_table
from harness_plugin_tasks.qqp_paws.questions import LABELS, overlap_splits

DUPLICATES = 0.48
"""Share of duplicates. A little below one half, so that the median overlap is that of a pair with
few words in common, and pairs with the same words lie above it."""

PEOPLE = (
    ("doctor", "physician"),
    ("lawyer", "attorney"),
    ("author", "writer"),
    ("teacher", "instructor"),
    ("guard", "sentry"),
    ("pilot", "aviator"),
    ("singer", "vocalist"),
    ("thief", "robber"),
)
DEEDS = (
    ("help", "assist"),
    ("stop", "halt"),
    ("praise", "commend"),
    ("hire", "employ"),
    ("trick", "deceive"),
    ("hug", "embrace"),
)
PLACES = ("rome", "oslo", "cairo", "lima", "delhi", "perth")
OPENERS = ("so", "well", "now", "please", "say", "hey")


class Question(NamedTuple):
    """Who does what to whom: entries of PEOPLE and DEEDS, which word of each, and where."""

    who: int
    deed: int
    whom: int
    word: int
    place: str

    def text(self, opener: str) -> str:
        """In words."""
        who, whom = PEOPLE[self.who][self.word], PEOPLE[self.whom][self.word]
        deed = DEEDS[self.deed][self.word]
        return f"{opener} does the {who} {deed} the {whom} in {self.place} ?"

    def swapped(self) -> Question:
        """The same words with the two people swapped."""
        return self._replace(who=self.whom, whom=self.who)

    def in_synonyms(self) -> Question:
        """The same question with the other word of every entry."""
        return self._replace(word=1 - self.word)


class Pair(NamedTuple):
    """Two questions in words and whether they ask the same."""

    first: str
    second: str
    label: int


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id`, and `paws`, in which all pairs share their words.

    Groups are label x overlap. Overlap agrees with the label in the share `bias_rate` of train,
    validation and id; half of `paws` are duplicates.

    Raises HarnessError for sizes that leave a cell empty.
    """
    rate = share(request, "bias_rate")
    # a stream of its own for every split, so that the size of one leaves the others as they are
    streams = np.random.default_rng(request.seed).spawn(4)
    drawn = {
        name: biased(rng, whole_number(request, f"n_{name}"), rate, f"qqp_paws.n_{name}")
        for name, rng in zip(("train", "validation", "id"), streams, strict=False)
    }
    size = whole_number(request, "n_paws", at_least=2)
    paws = pairs_of(streams[3], np.arange(size) % 2, np.ones(size, dtype=np.int64))
    tested = {*drawn["id"], *paws}
    splits, note = overlap_splits(
        request,
        {
            ("train", "train"): table("train", without(drawn["train"], tested)),
            ("validation", "validation"): table("validation", without(drawn["validation"], tested)),
            ("id", "in_domain"): table("id", drawn["id"]),
            ("paws", "ood"): table("paws", paws),
        },
    )
    what = f"embedded: generated, not the real sets; overlap agrees in {rate:.1%} of train"
    return TaskData("qqp_paws", request.source, splits, (what, note))


def biased(rng: np.random.Generator, n: int, rate: float, where: str) -> list[Pair]:
    """`n` pairs in random order whose overlap agrees with the label at `rate`."""
    label = rng.permutation((np.arange(n) < round(DUPLICATES * n)).astype(np.int64))
    return pairs_of(rng, label, planted_cues(rng, label, 2, rate, where))


def pairs_of(rng: np.random.Generator, label: Ints, overlap: Ints) -> list[Pair]:
    """(N,) one pair for every label and overlap: 1 the same words, 0 few words in common."""
    pairs = []
    for duplicate, same_words in zip(label.tolist(), overlap.tolist(), strict=True):
        first = question(rng)
        if same_words:
            second = first if duplicate else first.swapped()
        else:
            second = first.in_synonyms() if duplicate else unrelated(rng, first)
        pairs.append(Pair(first.text(one(rng, OPENERS)), second.text(one(rng, OPENERS)), duplicate))
    return pairs


def question(rng: np.random.Generator) -> Question:
    """A question about two different people."""
    who, whom = rng.permutation(len(PEOPLE))[:2].tolist()
    deed, word = int(rng.integers(len(DEEDS))), int(rng.integers(2))
    return Question(who, deed, whom, word, one(rng, PLACES))


def unrelated(rng: np.random.Generator, first: Question) -> Question:
    """A question of two other people and another deed, at the same place."""
    others = [person for person in range(len(PEOPLE)) if person not in (first.who, first.whom)]
    who, whom = rng.permutation(others)[:2].tolist()
    deed = (first.deed + 1 + int(rng.integers(len(DEEDS) - 1))) % len(DEEDS)
    return Question(who, deed, whom, int(rng.integers(2)), first.place)


def one(rng: np.random.Generator, texts: Sequence[str]) -> str:
    """One of `texts`."""
    return texts[int(rng.integers(len(texts)))]


def without(pairs: Sequence[Pair], held_out: set[Pair]) -> list[Pair]:
    """The pairs that stand in no test: a small grammar says some things twice."""
    return [pair for pair in pairs if pair not in held_out]


def table(name: str, pairs: Sequence[Pair]) -> Table:
    """The columns of pairs."""
    columns = {
        "question1": [pair.first for pair in pairs],
        "question2": [pair.second for pair in pairs],
        "label": [LABELS[pair.label] for pair in pairs],
    }
    return generated_table(name, columns)
