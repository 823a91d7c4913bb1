"""The embedded source: generated pairs with give-away words in the hypothesis, and revisions.

A premise says of somebody what they do and one thing more, a place or a colour. The hypothesis says
a place or a colour of the same person: the premise's own (entailment), another value of the same
kind (contradiction: nobody is in two places, no coat has two colours), or a value of the kind that
the premise is silent about (neutral). In the originals a word of the hypothesis that means nothing
mostly gives the label away, as annotators' habits do (Gururangan et al. 2018).

Every pair is revised to both of its other labels, once in the premise and once in the hypothesis.
Only the place or colour is edited, so that the give-away word mostly points to the wrong label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import balanced_labels, planted_cues
from harness_plugin_tasks._shared.text.splits import table_split
from harness_plugin_tasks._shared.text.tables import generated_table
from harness_plugin_tasks.cad_nli.released import COMBINED, LABELS

Sentence: TypeAlias = Literal["premise", "hypothesis"]

CUES = ("generic", "purpose", "negation")
"""In the order of LABELS: the kind of give-away word that points to each."""

CUE_WORDS = (
    ("there", "some", "at least"),
    ("also", "for once", "to be sure"),
    ("no doubt", "nothing less", "not least"),
)
KINDS = (
    tuple(f"in the {place}" for place in ("park", "kitchen", "library", "station", "garden")),
    tuple(f"in a {colour} coat" for colour in ("red", "blue", "green", "white", "black")),
)
"""Places and colours: values of one kind exclude each other, of two kinds they do not."""

PEOPLE = (
    "man",
    "woman",
    "boy",
    "girl",
    "nurse",
    "farmer",
    "singer",
    "student",
    "waiter",
    "tourist",
)
ACTS = ("eating", "reading", "singing", "waving", "resting", "talking", "smiling", "working")
DETAILS = ("today", "this morning", "again", "while it rains", "with a dog", "near the door")
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)


class Statement(NamedTuple):
    """A place or colour: its kind, an index into KINDS, and which value of that kind."""

    kind: int
    value: int

    @property
    def text(self) -> str:
        """In words."""
        return KINDS[self.kind][self.value]


class Pair(NamedTuple):
    """One pair; the label follows from what the two sentences say."""

    person: str
    act: str
    detail: str
    cue: int
    cue_word: str
    premise_fact: Statement
    hypothesis_fact: Statement

    @property
    def label(self) -> int:
        """Index into LABELS."""
        if self.premise_fact.kind != self.hypothesis_fact.kind:
            return NEUTRAL
        same = self.premise_fact.value == self.hypothesis_fact.value
        return ENTAILMENT if same else CONTRADICTION

    @property
    def premise(self) -> str:
        """The first sentence."""
        return f"the {self.person} {self.premise_fact.text} is {self.act} {self.detail}"

    @property
    def hypothesis(self) -> str:
        """The second sentence."""
        return f"{self.cue_word} the {self.person} is {self.hypothesis_fact.text}"


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id`, and three revisions of the rows of `id`.

    Groups are label/cue in all splits. The give-away word points to the label in the share
    `bias_rate` of the originals. With the option train=combined a revision of the premise and one
    of the hypothesis to each other label join the training and validation pairs.

    Raises HarnessError for sizes that leave a cell empty.
    """
    rate = share(request, "bias_rate")
    combined = request.options["train"] == "combined"
    # a stream of its own for every split, so that the size of one leaves the others as they are
    names = ("train", "validation", "test")
    drawn, by_premise, by_hypothesis = {}, {}, {}
    for name, rng in zip(names, np.random.default_rng(request.seed).spawn(3), strict=True):
        size = whole_number(request, f"n_{name}")
        drawn[name] = draw(rng, size, rate, f"cad_nli.n_{name}")
        by_premise[name] = revisions(rng, drawn[name], "premise")
        by_hypothesis[name] = revisions(rng, drawn[name], "hypothesis")
    tests = (*drawn["test"], *by_premise["test"], *by_hypothesis["test"])
    tested = {(pair.premise, pair.hypothesis) for pair in tests}

    def shown(name: str) -> list[Pair]:
        pairs = [*drawn[name]]
        pairs += [*by_premise[name], *by_hypothesis[name]] if combined else []
        return [pair for pair in pairs if (pair.premise, pair.hypothesis) not in tested]

    originals = [f"original-{i // 2:06d}" for i in range(len(by_premise["test"]))]
    splits = [
        split_of("train", "train", shown("train")),
        split_of("validation", "validation", shown("validation")),
        split_of("id", "in_domain", drawn["test"]),
        split_of("revised_premise", "ood", by_premise["test"], originals),
        split_of("revised_hypothesis", "ood", by_hypothesis["test"], originals),
        split_of(COMBINED, "ood", [*by_premise["test"], *by_hypothesis["test"]], originals * 2),
    ]
    note = (
        f"embedded: generated, not the real sets; the give-away word agrees in {rate:.1%} of "
        "originals"
    )
    return TaskData("cad_nli", request.source, {s.name: s for s in splits}, (note,))


def draw(rng: np.random.Generator, n: int, rate: float, where: str) -> list[Pair]:
    """`n` original pairs with the three labels equally often."""
    label = balanced_labels(rng, n, len(LABELS))
    cue = planted_cues(rng, label, len(LABELS), rate, where)

    def one(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    pairs = []
    for y, c in zip(label.tolist(), cue.tolist(), strict=True):
        kind = int(rng.integers(len(KINDS)))
        fact = Statement(kind, int(rng.integers(len(KINDS[kind]))))
        pairs.append(
            Pair(
                one(PEOPLE),
                one(ACTS),
                one(DETAILS),
                c,
                one(CUE_WORDS[c]),
                fact,
                related(rng, fact, y),
            )
        )
    return pairs


def related(rng: np.random.Generator, fact: Statement, label: int) -> Statement:
    """A statement in the relation `label` to `fact`; the relation reads the same both ways."""
    if label == ENTAILMENT:
        return fact
    if label == NEUTRAL:
        other = 1 - fact.kind
        return Statement(other, int(rng.integers(len(KINDS[other]))))
    size = len(KINDS[fact.kind])
    return Statement(fact.kind, (fact.value + 1 + int(rng.integers(size - 1))) % size)


def revisions(rng: np.random.Generator, pairs: Sequence[Pair], edited: Sentence) -> list[Pair]:
    """Every pair twice, one sentence edited so that it has one and the other of the labels."""
    return [
        revision(rng, pair, edited, label)
        for pair in pairs
        for label in range(len(LABELS))
        if label != pair.label
    ]


def revision(rng: np.random.Generator, pair: Pair, edited: Sentence, label: int) -> Pair:
    """The pair with one sentence edited so that it has `label`."""
    if edited == "premise":
        return pair._replace(premise_fact=related(rng, pair.hypothesis_fact, label))
    return pair._replace(hypothesis_fact=related(rng, pair.premise_fact, label))


def split_of(
    name: str, purpose: Purpose, pairs: Sequence[Pair], originals: Sequence[str] | None = None
) -> Split:
    """The split of pairs, in their order; revisions of one of the `originals` are a cluster."""
    labels = [LABELS[pair.label] for pair in pairs]
    cues = [CUES[pair.cue] for pair in pairs]
    columns = {
        "label": labels,
        "premise": [pair.premise for pair in pairs],
        "hypothesis": [pair.hypothesis for pair in pairs],
    }
    return table_split(
        name,
        purpose=purpose,
        table=generated_table(name, columns),
        labels=LABELS,
        attributes=cues,
        values=CUES,
        aligned=[int(pair.label == pair.cue) for pair in pairs],
        clusters=originals,
    )
