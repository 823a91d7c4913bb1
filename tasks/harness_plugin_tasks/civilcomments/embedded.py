"""The embedded source: generated comments whose mentions of people go with the label.

A comment says who spoke, and something of a third person. It is toxic if that person is insulted,
or if it is denied that anybody praises them, and not if they are praised or if an insult is denied.
Who spoke has nothing to do with it, but in training toxic comments mostly mention one of the eight
identities there, and other comments mostly do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import balanced_labels, planted_cues
from harness_plugin_tasks.civilcomments.comments import (
    IDENTITIES,
    LABELS,
    Bits,
    Comments,
    comment_split,
    direction,
    grouping,
)

MENTIONS = ("male", "female", "gay", "christian", "muslim", "buddhist", "black", "white")
"""How a speaker of each of IDENTITIES is mentioned."""

NOBODY = ("local", "early", "young", "new", "loud", "late", "tired", "brief")
TWO_IDENTITIES = 0.3
"""Share of the mentions that name a second identity."""

SPEAKERS = ("speaker", "reader", "visitor", "neighbour", "guest", "caller")
EVENTS = ("the debate", "the show", "the match", "the meeting", "the party", "the hearing")
TIMES = ("today", "early", "at noon", "at last", "again", "on monday")
TARGETS = ("the mayor", "the editor", "the referee", "the driver", "my boss", "the landlord")
INSULTS = ("fool", "dunce", "clown", "liar", "crook", "coward", "moron", "loser")
PRAISE = ("friend", "champion", "leader", "helper", "genius", "gentleman", "listener", "master")
DENIED = 0.4
"""Share of the comments that say the opposite and deny it."""


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id`, and `balanced`, where mentions say nothing of the label.

    A mention agrees with toxic, and its absence with the opposite, in the share `bias_rate` of
    train, validation and id, and in one half of `balanced`. Identities are equally frequent.

    Raises HarnessError for sizes that leave a cell empty.
    """
    chosen = grouping(request)
    rate = share(request, "bias_rate")
    sizes: dict[str, tuple[Purpose, float]] = {
        "train": ("train", rate),
        "validation": ("validation", rate),
        "id": ("in_domain", rate),
        "balanced": ("ood", 0.5),
    }
    # a stream of its own for every split, so that the size of one leaves the others as they are
    streams = np.random.default_rng(request.seed).spawn(len(sizes))
    drawn = {
        name: draw(rng, whole_number(request, f"n_{name}"), agreement, name)
        for (name, (_, agreement)), rng in zip(sizes.items(), streams, strict=True)
    }
    tested = {*drawn["id"].texts, *drawn["balanced"].texts}
    shown = {
        name: without(comments, tested) if sizes[name][0] in ("train", "validation") else comments
        for name, comments in drawn.items()
    }
    points_to = direction(shown["train"], chosen)
    splits = [
        comment_split(name, purpose, shown[name], chosen, points_to, name)
        for name, (purpose, _) in sizes.items()
    ]
    note = f"embedded: generated, not the real set; mentions agree in {rate:.1%} of train"
    return TaskData("civilcomments", request.source, {s.name: s for s in splits}, (note,))


def draw(rng: np.random.Generator, n: int, rate: float, name: str) -> Comments:
    """`n` comments, half of them toxic, whose mentions agree with the label at `rate`."""
    label = balanced_labels(rng, n, len(LABELS))
    mention = planted_cues(rng, label, len(LABELS), rate, f"civilcomments.n_{name}")
    mentioned = mentions(rng, label, mention)
    texts = [
        comment(rng, bool(toxic), np.flatnonzero(row).tolist())
        for toxic, row in zip(label, mentioned, strict=True)
    ]
    return Comments(texts, [f"{name}-{row:06d}" for row in range(n)], label == 1, mentioned)


def mentions(rng: np.random.Generator, label: Ints, mention: Ints) -> Bits:
    """(N, 8) who is mentioned: every identity equally often in every label, up to one row."""
    out = np.zeros((len(label), len(IDENTITIES)), dtype=bool)
    for value in range(len(LABELS)):
        rows = np.flatnonzero((label == value) & (mention == 1))
        first = rng.permutation(np.arange(len(rows)) % len(IDENTITIES))
        out[rows, first] = True
        second = (first + 1 + rng.integers(len(IDENTITIES) - 1, size=len(rows))) % len(IDENTITIES)
        two = rng.random(len(rows)) < TWO_IDENTITIES
        out[rows[two], second[two]] = True
    return out


def comment(rng: np.random.Generator, toxic: bool, identities: Sequence[int]) -> str:
    """One comment in words."""

    def one(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    who = " and ".join(MENTIONS[i] for i in identities) or one(NOBODY)
    denied = bool(rng.random() < DENIED)
    word = one(INSULTS if toxic != denied else PRAISE)
    verdict = f"nobody calls {one(TARGETS)} a {word}" if denied else f"{one(TARGETS)} is a {word}"
    return f"the {who} {one(SPEAKERS)} left {one(EVENTS)} {one(TIMES)} . {verdict} ."


def without(comments: Comments, held_out: set[str]) -> Comments:
    """The comments that stand in no test: a small grammar says some things twice."""
    keep = [row for row, text in enumerate(comments.texts) if text not in held_out]
    return Comments(
        [comments.texts[row] for row in keep],
        [comments.ids[row] for row in keep],
        comments.toxic[keep],
        comments.mentioned[keep],
    )
