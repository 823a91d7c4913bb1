"""Generated comments, and sentences of HateCheck's and the templates' kind; polite ones.

A comment says who spoke and what was said of a third person: an insult, or praise. In training
toxic comments mostly mention an identity and others mostly do not.
"""

from __future__ import annotations

import numpy as np

from harness_plugin.data.dataset import DataRequest, Split, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import balanced_labels, planted_cues
from harness_plugin_tasks.toxicity_identity.sets import (
    KIND_OF,
    Texts,
    hatecheck_split,
    mention_split,
    templates_split,
)

NOBODY = ("local", "early", "quiet", "new", "loud", "late", "tired", "brief")
SPEAKERS = ("speaker", "reader", "visitor", "neighbour", "guest", "caller")
TARGETS = ("the mayor", "the editor", "the referee", "the driver", "my boss", "the landlord")
INSULTS = ("fool", "dunce", "clown", "liar", "crook", "coward")
PRAISE = ("friend", "champion", "leader", "helper", "genius", "listener")
OPINIONS = {
    True: ("awful", "a disgrace", "dreadful", "a nuisance", "horrible", "a shame"),
    False: ("kind", "welcome", "wonderful", "a joy", "lovely", "a delight"),
}
OPINIONS_TESTED = 3
"""Opinions of either kind that the sentences of a test set hold."""
GROUPS = ("black people", "disabled people", "gay people", "women")


def load(request: DataRequest) -> TaskData:
    """The splits `train`, `validation`, `id`, `hatecheck` and `templates`."""
    rate = share(request, "bias_rate")
    streams = np.random.default_rng(request.seed).spawn(5)
    biased = {
        name: comments(rng, whole_number(request, f"n_{name}", 8), rate, name)
        for name, rng in zip(("train", "validation", "id"), streams, strict=False)
    }
    tested = {*biased["id"].text}
    for name in ("train", "validation"):
        rows = [i for i, text in enumerate(biased[name].text) if text not in tested]
        biased[name] = biased[name].select(rows)
    splits = [
        mention_split("train", "train", biased["train"]),
        mention_split("validation", "validation", biased["validation"]),
        mention_split("id", "in_domain", biased["id"]),
        cases(streams[3]),
        phrases(streams[4]),
    ]
    note = f"embedded: generated, not the real sets; mentions agree in {rate:.1%} of train"
    return TaskData(request.task.task, request.source, {s.name: s for s in splits}, (note,))


def comments(rng: np.random.Generator, n: int, rate: float, name: str) -> Texts:
    """`n` comments, half of them toxic, whose mentions agree with the label at `rate`."""
    label = balanced_labels(rng, n, 2)
    mention = planted_cues(rng, label, 2, rate, f"toxicity_identity.n_{name}")
    terms = list(KIND_OF)

    def one(words: list[str] | tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    texts = [
        f"the {one(terms if mentioned else NOBODY)} {one(SPEAKERS)} said that {one(TARGETS)} is "
        f"{one(('a real', 'a true', 'such a', 'quite a'))} {one(INSULTS if toxic else PRAISE)}"
        for toxic, mentioned in zip(label.tolist(), mention.tolist(), strict=True)
    ]
    return Texts(texts, [f"{name}-{row:05d}" for row in range(n)], (label == 1).tolist(), name)


def opinions(rng: np.random.Generator) -> dict[bool, list[str]]:
    """Some of OPINIONS of either kind."""
    return {
        toxic: [words[i] for i in rng.choice(len(words), OPINIONS_TESTED, replace=False)]
        for toxic, words in OPINIONS.items()
    }


def cases(rng: np.random.Generator) -> Split:
    """Opinions of four groups of people, and bad ones of things."""
    opinions_of = opinions(rng)
    made = [
        (f"{who} are {what}", toxic, who, f"{toxic}-{what}", "opinion")
        for toxic, words in opinions_of.items()
        for what in words
        for who in GROUPS
    ]
    made += [
        (f"my {thing} is {what}", False, "", f"thing-{what}", "object")
        for what in opinions_of[True]
        for thing in ("phone", "soup", "chair", "train")
    ]
    text, toxic, target, template, functionality = (list(part) for part in zip(*made, strict=True))
    ids = [f"case-{row:03d}" for row in range(len(made))]
    return hatecheck_split(Texts(text, ids, toxic, "cases"), target, template, functionality)


def phrases(rng: np.random.Generator) -> Split:
    """Every identity term in six sentences, half of them toxic."""
    made = [
        (f"being {term} is {what}", toxic, "being_adj")
        for toxic, words in opinions(rng).items()
        for what in words
        for term in KIND_OF
    ]
    text, toxic, kind = (list(part) for part in zip(*made, strict=True))
    ids = [f"phrase-{row:03d}" for row in range(len(made))]
    return templates_split(Texts(text, ids, toxic, "phrases"), kind)
