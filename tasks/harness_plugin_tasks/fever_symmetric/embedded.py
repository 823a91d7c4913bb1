"""The embedded source: generated claims with give-away phrases, and a symmetric test.

Evidence says one thing of a person, a profession or a place of birth. A claim says the same thing
(SUPPORTS), another value of the same kind (REFUTES: everybody has one profession and one place of
birth here), or a value of the kind that the evidence is silent about (NOT ENOUGH INFO). Before the
claim stands an opener that affirms it: "we know that", or one with a phrase that FEVER's annotators
use to refute, "we did not doubt that". In training such phrases mostly go with REFUTES.

The symmetric test is built as Schuster et al. (2019) did: a claim c with evidence e that refutes
it gets evidence e' that supports c, and a claim c' that e supports and e' refutes. Of the four
pairs every claim has one that supports it and one that refutes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import balanced_labels, planted_cues
from harness_plugin_tasks._shared.text.tables import Table, generated_table
from harness_plugin_tasks.fever_symmetric.claims import (
    LABELS,
    TWO_LABELS,
    claim_split,
    symmetric_split,
)

SUPPORTS, REFUTES, NOT_ENOUGH_INFO = range(3)
KINDS = (
    tuple(f"was a {job}" for job in ("painter", "judge", "sailor", "baker", "surgeon")),
    tuple(f"was born in {city}" for city in ("lisbon", "oslo", "cairo", "lima", "quebec")),
)
"""Professions and places of birth: values of one kind exclude each other."""

FIRST_NAMES = ("ada", "boris", "clara", "david", "emil", "flora", "greta", "hugo", "ines", "jonas")
LAST_NAMES = ("moss", "field", "hart", "stone", "reed", "vale", "brook", "frost", "lane", "wood")
DETAILS = (
    "and lived long",
    "according to the register",
    "and loved music",
    "in the last century",
    "as her letters show",
    "and wrote two books",
)
PLAIN = ("we know that", "they say that", "it is said that", "people noted that")
GIVE_AWAY = (
    "we did not doubt that",
    "nobody failed to note that",
    "nobody refused to say that",
    "nobody was unable to see that",
)


class Pair(NamedTuple):
    """A claim and evidence: who, what each of them says (kind and value), and the words around."""

    name: str
    evidence: tuple[int, int]
    claim: tuple[int, int]
    opener: str
    detail: str

    @property
    def label(self) -> str:
        """How the claim stands to the evidence."""
        if self.claim[0] != self.evidence[0]:
            return LABELS[NOT_ENOUGH_INFO]
        return LABELS[SUPPORTS if self.claim == self.evidence else REFUTES]


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id` (three labels) and `symmetric` (two of them).

    A give-away phrase agrees with REFUTES, and its absence with the other labels, in the share
    `bias_rate` of train, validation and id. In `symmetric` every claim is as often supported as
    refuted, and half of the claims have a phrase. The option two_way leaves the third label out.

    Raises HarnessError for sizes that leave a cell empty.
    """
    rate = share(request, "bias_rate")
    labels = TWO_LABELS if request.options["two_way"] else LABELS
    # a stream of its own for every split, so that the size of one leaves the others as they are
    streams = np.random.default_rng(request.seed).spawn(4)
    sizes = {name: whole_number(request, f"n_{name}") for name in ("train", "validation", "id")}
    drawn = {
        name: biased(rng, n, rate, len(labels), f"fever_symmetric.n_{name}")
        for (name, n), rng in zip(sizes.items(), streams, strict=False)
    }
    test, quadruples = symmetric(streams[3], whole_number(request, "n_symmetric", at_least=8) // 8)
    tested = {*drawn["id"], *test}
    splits = [
        claim_split("train", "train", table("train", without(drawn["train"], tested)), labels),
        claim_split(
            "validation",
            "validation",
            table("validation", without(drawn["validation"], tested)),
            labels,
        ),
        claim_split("id", "in_domain", table("id", drawn["id"]), labels),
        symmetric_split("symmetric", table("symmetric", test), quadruples),
    ]
    note = f"embedded: generated, not the real sets; the phrase agrees in {rate:.1%} of train"
    return TaskData("fever_symmetric", request.source, {s.name: s for s in splits}, (note,))


def biased(rng: np.random.Generator, n: int, rate: float, n_labels: int, where: str) -> list[Pair]:
    """`n` pairs with the labels equally often and phrases that mostly give REFUTES away."""
    label = balanced_labels(rng, n, n_labels)
    phrase = planted_cues(rng, (label == REFUTES).astype(np.int64), 2, rate, where)
    pairs = []
    for y, has_phrase in zip(label.tolist(), phrase.tolist(), strict=True):
        evidence = fact(rng, int(rng.integers(len(KINDS))))
        pairs.append(pair(rng, evidence, related(rng, evidence, y), bool(has_phrase)))
    return pairs


def symmetric(rng: np.random.Generator, per_opener: int) -> tuple[list[Pair], list[str]]:
    """`per_opener` quadruples of pairs whose claims have a give-away phrase, as many without.

    And which quadruple each of the shuffled pairs belongs to.
    """
    pairs = []
    for i in range(2 * per_opener):
        one = fact(rng, int(rng.integers(len(KINDS))))
        other = related(rng, one, REFUTES)
        first = pair(rng, one, one, i % 2 == 0)
        pairs += [
            first._replace(evidence=evidence, claim=claim)
            for claim in (one, other)
            for evidence in (one, other)
        ]
    order = rng.permutation(len(pairs))
    return [pairs[i] for i in order], [f"quadruple-{i // 4:06d}" for i in order]


def fact(rng: np.random.Generator, kind: int) -> tuple[int, int]:
    """A value of a kind."""
    return kind, int(rng.integers(len(KINDS[kind])))


def related(rng: np.random.Generator, evidence: tuple[int, int], label: int) -> tuple[int, int]:
    """A claim in the relation `label` to `evidence`."""
    kind, value = evidence
    if label == SUPPORTS:
        return evidence
    if label == NOT_ENOUGH_INFO:
        return fact(rng, 1 - kind)
    size = len(KINDS[kind])
    return kind, (value + 1 + int(rng.integers(size - 1))) % size


def pair(
    rng: np.random.Generator, evidence: tuple[int, int], claim: tuple[int, int], has_phrase: bool
) -> Pair:
    """A pair that says this, with the other words drawn."""

    def one(texts: Sequence[str]) -> str:
        return texts[int(rng.integers(len(texts)))]

    name = f"{one(FIRST_NAMES)} {one(LAST_NAMES)}"
    return Pair(name, evidence, claim, one(GIVE_AWAY if has_phrase else PLAIN), one(DETAILS))


def without(pairs: Sequence[Pair], held_out: set[Pair]) -> list[Pair]:
    """The pairs that stand in no test: a small grammar says some things twice."""
    return [each for each in pairs if each not in held_out]


def table(name: str, pairs: Sequence[Pair]) -> Table:
    """The pairs in words."""
    columns = {
        "premise": [f"{p.name} {KINDS[p.evidence[0]][p.evidence[1]]} {p.detail}" for p in pairs],
        "hypothesis": [f"{p.opener} {p.name} {KINDS[p.claim[0]][p.claim[1]]}" for p in pairs],
        "label": [p.label for p in pairs],
    }
    return generated_table(name, columns)
