"""The embedded source: generated reviews whose genre goes with the label, and their revisions.

A review names its genre and says one thing of the film, with or without a negation; the label is
what it says. In the originals romances are mostly praised and horror films mostly not. A revision
turns the label around with one edit, an opposite adjective or a "not" more or less, and leaves the
genre as it is, so that the genre now mostly points to the wrong label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, Purpose, Split, TaskData
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.planted import balanced_labels, planted_cues
from harness_plugin_tasks._shared.text.splits import table_split
from harness_plugin_tasks._shared.text.tables import generated_table
from harness_plugin_tasks.cad_imdb.released import LABELS

GENRES = ("horror", "romance")
"""In the order of LABELS: the genre that points to each."""

GENRE_WORDS = {
    "horror": ("horror", "zombie", "vampire", "ghost"),
    "romance": ("romance", "romantic", "love", "wedding"),
}
OPPOSITES = (
    ("dull", "gripping"),
    ("clumsy", "graceful"),
    ("awful", "superb"),
    ("stale", "fresh"),
    ("weak", "strong"),
    ("ugly", "gorgeous"),
    ("shallow", "profound"),
    ("careless", "careful"),
)
"""Pairs of adjectives in the order of LABELS."""

NEGATED = 0.4
ASPECTS = ("acting", "plot", "music", "ending", "dialogue", "camera work", "pacing", "script")
KINDS = ("film", "movie", "picture", "feature")
PLACES = ("paris", "texas", "a harbour", "the alps", "a castle", "tokyo", "a village", "a school")
LEADS = ("a nurse", "two sisters", "a pilot", "an old couple", "a painter", "three friends")
OCCASIONS = (
    "on friday",
    "last week",
    "with my brother",
    "on a plane",
    "at home",
    "in a full house",
)


class Review(NamedTuple):
    """One review: what is said of the film, and the fixed text around it."""

    label: int
    genre: int
    before: str
    pair: int
    negated: bool

    @property
    def text(self) -> str:
        """The review in words: the adjective agrees with the label unless it is negated."""
        adjective = OPPOSITES[self.pair][self.label ^ self.negated]
        return f"{self.before} was {'not ' if self.negated else ''}{adjective} ."

    def revised(self, swap: bool) -> Review:
        """The review with the other label: another adjective (`swap`), or a negation toggled."""
        negated = self.negated if swap else not self.negated
        return self._replace(label=1 - self.label, negated=negated)


def load(request: DataRequest) -> TaskData:
    """Splits `train`, `validation`, `id`, and `revised`: the rows of `id` after their revision.

    Groups are label/genre in all splits. The genre points to the label in the share `bias_rate`
    of the originals, and so in as few of the revisions. With the option train=combined a revision
    of every training and validation review joins them, and the cue says nothing there.

    Raises HarnessError for sizes that leave a cell empty.
    """
    rate = share(request, "bias_rate")
    combined = request.options["train"] == "combined"
    # a stream of its own for every split, so that the size of one leaves the others as they are
    names = ("train", "validation", "test")
    streams = np.random.default_rng(request.seed).spawn(len(names))
    drawn = {
        name: draw(rng, whole_number(request, f"n_{name}"), rate, f"cad_imdb.n_{name}")
        for name, rng in zip(names, streams, strict=True)
    }
    revised = {name: revisions(rng, drawn[name]) for name, rng in zip(names, streams, strict=True)}
    tested = {review.text for review in (*drawn["test"], *revised["test"])}
    shown = {
        name: [
            review
            for review in (*drawn[name], *(revised[name] if combined else ()))
            if review.text not in tested
        ]
        for name in ("train", "validation")
    }
    splits = [
        split_of("train", "train", shown["train"]),
        split_of("validation", "validation", shown["validation"]),
        split_of("id", "in_domain", drawn["test"]),
        split_of("revised", "ood", revised["test"]),
    ]
    note = f"embedded: generated, not the real sets; the genre agrees in {rate:.1%} of originals"
    return TaskData("cad_imdb", request.source, {s.name: s for s in splits}, (note,))


def draw(rng: np.random.Generator, n: int, rate: float, where: str) -> list[Review]:
    """`n` original reviews, half of them positive."""
    label = balanced_labels(rng, n, len(LABELS))
    genre = planted_cues(rng, label, len(LABELS), rate, where)
    negated = rng.random(n) < NEGATED
    pair = rng.integers(len(OPPOSITES), size=n)
    return [
        Review(int(y), int(g), setting(rng, GENRES[g]), int(p), bool(no))
        for y, g, p, no in zip(label, genre, pair, negated, strict=True)
    ]


def setting(rng: np.random.Generator, genre: str) -> str:
    """All of a review but its last words."""

    def one(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    return (
        f"i saw this {one(GENRE_WORDS[genre])} {one(KINDS)} {one(OCCASIONS)} . it follows "
        f"{one(LEADS)} in {one(PLACES)} . the {one(ASPECTS)}"
    )


def revisions(rng: np.random.Generator, reviews: Sequence[Review]) -> list[Review]:
    """One revision of every review; half of them swap the adjective."""
    swaps = rng.random(len(reviews)) < 0.5
    return [review.revised(bool(swap)) for review, swap in zip(reviews, swaps, strict=True)]


def split_of(name: str, purpose: Purpose, reviews: Sequence[Review]) -> Split:
    """The split of reviews, in their order."""
    labels = [LABELS[review.label] for review in reviews]
    genres = [GENRES[review.genre] for review in reviews]
    columns = {"label": labels, "text": [review.text for review in reviews]}
    return table_split(
        name,
        purpose=purpose,
        table=generated_table(name, columns),
        inputs=("text",),
        labels=LABELS,
        attributes=genres,
        values=GENRES,
        aligned=[int(review.label == review.genre) for review in reviews],
    )
