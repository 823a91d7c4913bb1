"""Counterfactual text pairs, whose labels are the teacher's.

No rule knows how a change of words changes a real text's label; a debiased teacher's answer is
what distillation is to hand on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from harness_plugin.data.dataset import Split
from harness_plugin.data.task import Task
from harness_plugin.pipeline.roles.augment import additional
from harness_plugin.training.contracts import Augmentation
from harness_plugin_hooks.augment.rows import part_of

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # noqa: RUF001
FUNCTION_WORDS = (
    "a an the this that these those and or but if of in on at to by for with from as is are was "
    "were be been being do does did has have had will would can could may might must should not "
    "no nor he she it they we you i his her its their our your who which what when where there"
)
FUNCTION = frozenset(FUNCTION_WORDS.split())
AUXILIARY_VERBS = (
    "is are was were do does did has have had will would can could may might must should"
)
AUXILIARY = frozenset(AUXILIARY_VERBS.split())


class TextPairs(Augmentation):
    """A share of the training pairs with one text changed; `confidence` as the teacher is sure."""

    needs: ClassVar[frozenset[str]] = frozenset({"text_pair"})
    defaults: ClassVar[Mapping[str, Any]] = {"share": 0.5, "confidence": 0.0}
    stream: ClassVar[int] = 0
    suffix: ClassVar[str] = ""

    @classmethod
    def labelled(cls, options: Mapping[str, Any]) -> bool:
        """No rule knows what a change of words does to a label."""
        return False

    @classmethod
    def rows(cls, task: Task, train: Split, options: Mapping[str, Any], seed: int) -> list[Split]:
        """The changed pairs, ids `ORIGINAL#NAME`; pairs that cannot be changed are left out."""
        rng = np.random.default_rng([seed, cls.stream])
        some = train.select(part_of(len(train), float(options["share"]), rng))
        columns = {name: list(some.rows[name]) for name in task.inputs}
        first, second = task.inputs[0], task.inputs[-1]
        changed = cls.change(columns[first], columns[second], rng)
        kept = [row for row, pair in enumerate(changed) if pair is not None]
        if not kept:
            return []
        inputs = {name: [values[row] for row in kept] for name, values in columns.items()}
        pairs = [pair for pair in changed if pair is not None]
        inputs[first], inputs[second] = [a for a, _ in pairs], [b for _, b in pairs]
        split = additional(
            train,
            cls.suffix,
            inputs=inputs,
            ids=[f"{some.ids[row]}#{cls.suffix}" for row in kept],
            label=some.label[kept],
        )
        return [split]

    @classmethod
    def change(
        cls, first: list[str], second: list[str], rng: np.random.Generator
    ) -> list[tuple[str, str] | None]:
        """The changed pairs; None for a pair that cannot be changed."""
        raise NotImplementedError


class SwapArguments(TextPairs):
    """The first and the last content word that both texts share change places in the second.

    "The judge saw the doctor" becomes "The doctor saw the judge": all words stay, which is what a
    model that trusts word overlap goes by (McCoy et al. 2019 build HANS of such pairs).
    """

    stream: ClassVar[int] = 2
    suffix: ClassVar[str] = "swap"

    @classmethod
    def change(
        cls, first: list[str], second: list[str], rng: np.random.Generator
    ) -> list[tuple[str, str] | None]:
        """Pairs with fewer than two such words are left out."""
        out: list[tuple[str, str] | None] = []
        for premise, hypothesis in zip(first, second, strict=True):
            swapped = swap(premise, hypothesis)
            out.append(None if swapped is None else (premise, swapped))
        return out


def swap(premise: str, hypothesis: str) -> str | None:
    """`hypothesis` with two shared content words exchanged; None where there are not two."""
    known = {word.lower() for word in WORD.findall(premise)} - FUNCTION
    shared = [match for match in WORD.finditer(hypothesis) if match.group().lower() in known]
    if len(shared) < 2 or shared[0].group().lower() == shared[-1].group().lower():
        return None
    a, b = shared[0], shared[-1]
    left, right = like(b.group(), a.group()), like(a.group(), b.group())
    return (
        hypothesis[: a.start()]
        + left
        + hypothesis[a.end() : b.start()]
        + right
        + hypothesis[b.end() :]
    )


def like(word: str, model: str) -> str:
    """`word` beginning in the case in which `model` does."""
    first = word[0].upper() if model[0].isupper() else word[0].lower()
    return first + word[1:]


class Negation(TextPairs):
    """ "not" after the second text's first auxiliary verb, or taken away where it stands there.

    A text without an auxiliary verb gets "it is not true that" in front.
    """

    stream: ClassVar[int] = 3
    suffix: ClassVar[str] = "negation"

    @classmethod
    def change(
        cls, first: list[str], second: list[str], rng: np.random.Generator
    ) -> list[tuple[str, str] | None]:
        """Empty texts are left out."""
        return [
            (premise, negated(hypothesis)) if hypothesis.strip() else None
            for premise, hypothesis in zip(first, second, strict=True)
        ]


def negated(text: str) -> str:
    """The text with one negation more or less."""
    for match in WORD.finditer(text):
        word = match.group()
        if word.lower() in AUXILIARY:
            after = re.match(r"\s+not\b", text[match.end() :], re.IGNORECASE)
            if after:
                return text[: match.end()] + text[match.end() + after.end() :]
            return f"{text[: match.end()]} not{text[match.end() :]}"
    return f"It is not true that {text[0].lower()}{text[1:]}"


class OtherPremise(TextPairs):
    """The second text with the first text of another row: what is left of it is the bias.

    A model that answers from the hypothesis alone answers as before; a debiased teacher does not.
    """

    stream: ClassVar[int] = 4
    suffix: ClassVar[str] = "other_premise"

    @classmethod
    def change(
        cls, first: list[str], second: list[str], rng: np.random.Generator
    ) -> list[tuple[str, str] | None]:
        """Every row takes the premise of the next one in a random order."""
        order = rng.permutation(len(first))
        other = np.empty(len(first), np.int64)
        other[order] = np.roll(order, -1)
        return [
            None if first[o] == premise else (first[o], hypothesis)
            for o, premise, hypothesis in zip(other.tolist(), first, second, strict=True)
        ]
