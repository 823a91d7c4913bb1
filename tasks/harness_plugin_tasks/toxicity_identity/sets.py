"""From rows of text to splits: labels, mentions of people, groups, clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness_plugin.data.dataset import ALIGNED, CONFLICTING, Purpose, Split
from harness_plugin_tasks._shared.text.splits import table_split
from harness_plugin_tasks._shared.text.tables import Table

LABELS = ("nontoxic", "toxic")
MENTION, NO_MENTION = "mention", "no_mention"

TERMS = {
    "sexuality": "lesbian, gay, bisexual, queer, lgbt, lgbtq, homosexual, straight, heterosexual",
    "gender": "transgender, trans, male, female, nonbinary",
    "origin": (
        "african, african american, black, white, european, hispanic, latino, latina, latinx, "
        "mexican, canadian, american, asian, indian, middle eastern, chinese, japanese"
    ),
    "religion": "christian, muslim, jewish, buddhist, catholic, protestant, sikh, taoist",
    "age": "old, older, young, younger, teenage, millenial, middle aged, elderly",
    "disability": "blind, deaf, paralyzed",
}
"""The 50 identity terms of the sentence templates (Dixon et al. 2018), by what they are of."""

KIND_OF = {term: kind for kind, listed in TERMS.items() for term in listed.split(", ")}
NOBODY = "none"

MORE = "woman, women, girl, girls, man, men, immigrant, immigrants, disabled, refugee, refugees"
"""Words that name people in HateCheck and tweets, and are none of the templates' terms."""


def any_of(words: Sequence[str]) -> re.Pattern[str]:
    """One of the words, or its plural; the longest that fits, whole words in any case."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest))})s?\b", re.IGNORECASE)


TERM = any_of(list(KIND_OF))
PERSON = any_of([*KIND_OF, *MORE.split(", ")])


class Texts(NamedTuple):
    """Rows: texts, ids, whether each is toxic, and where they are from, for messages."""

    text: Sequence[str]
    ids: Sequence[str]
    toxic: Sequence[bool]
    where: str

    def select(self, rows: Sequence[int]) -> Texts:
        """The rows at these places."""
        return Texts(
            [self.text[i] for i in rows],
            [self.ids[i] for i in rows],
            [self.toxic[i] for i in rows],
            self.where,
        )


def mention_split(name: str, purpose: Purpose, texts: Texts) -> Split:
    """Tweets or comments; groups label x whether a person is mentioned, aligned = toxic mention."""
    values = [MENTION if PERSON.search(text) else NO_MENTION for text in texts.text]
    return split_of(name, purpose, texts, values, (NO_MENTION, MENTION), mentioned=MENTION)


def hatecheck_split(
    texts: Texts, target: Sequence[str], templates: Sequence[str], functionality: Sequence[str]
) -> Split:
    """HateCheck; groups label x target, clusters are the templates that cases are made from."""
    known = sorted({*target} - {""})
    values = [name or NOBODY for name in target]
    return split_of(
        "hatecheck",
        "ood",
        texts,
        values,
        (*known, NOBODY),
        breakdowns={"functionality": functionality},
        clusters=templates,
    )


def templates_split(texts: Texts, kinds: Sequence[str]) -> Split:
    """Sentence templates; groups label x kind of identity, clusters are sentences without term."""
    matches = [TERM.search(text) for text in texts.text]
    terms = [match[1].lower() if match else NOBODY for match in matches]
    values = [KIND_OF.get(term, NOBODY) for term in terms]
    without = [TERM.sub("_", text) for text in texts.text]
    return split_of(
        "templates",
        "ood",
        texts,
        values,
        (*TERMS, NOBODY),
        breakdowns={"term": terms, "template": kinds},
        clusters=without,
    )


def split_of(
    name: str,
    purpose: Purpose,
    texts: Texts,
    values: Sequence[str],
    known: Sequence[str],
    *,
    mentioned: str = "",
    breakdowns: Mapping[str, Sequence[str]] | None = None,
    clusters: Sequence[str] | None = None,
) -> Split:
    """A split whose groups are label x value, those that occur.

    Aligned are toxic texts that mention somebody and others that do not; `mentioned` is the value
    that says so, without it every one but NOBODY. Raises HarnessError as `make_split` does.
    """
    labels = [LABELS[int(toxic)] for toxic in texts.toxic]
    somebody = [v == mentioned if mentioned else v != NOBODY for v in values]
    columns = {"id": [*texts.ids], "label": labels, "text": [*texts.text]}
    return table_split(
        name,
        purpose=purpose,
        table=Table(name, texts.where, columns),
        inputs=("text",),
        labels=LABELS,
        attributes=values,
        values=known,
        aligned=[
            ALIGNED if toxic == some else CONFLICTING
            for toxic, some in zip(texts.toxic, somebody, strict=True)
        ],
        breakdowns=breakdowns,
        clusters=clusters,
    )
