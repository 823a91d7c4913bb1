"""Clean rows and their corrupted twins: what differs between them is what a circuit tells apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.analysis.inputs import AnalysisInput
from harness_plugin.analysis.loaded_models import encoded_for
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.pipeline.roles.augment import changed
from harness_plugin.records import Ints
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.augment.rows import encoded as stored_image
from harness_plugin_hooks.augment.texts import WORD, like, swap

Pair: TypeAlias = tuple[str, str] | None
FEWEST = 8
"""Pairs of a group below which a kind of corruption is not used."""

DRAWS = 8
"""Rows drawn for each pair asked for: some have no twin."""

NEUTRAL = {
    "not": "also",
    "never": "always",
    "no": "some",
    "nobody": "everybody",
    "nothing": "everything",
    "none": "all",
    "nor": "or",
}
OTHER = NEUTRAL | {neutral: negation for negation, neutral in NEUTRAL.items()}

ALIKE = "read alike by a model, twin and all"
UNEQUAL = "of another token length than the twin"
NO_TWIN = "without a twin of this kind"


@dataclass(frozen=True)
class Pairs:
    """Rows of the set and their twins, as each subject reads them; equally many of each group.

    `rows` (N,), `group` (N,) names; twin i is row `twin[i]` of `twins`, None where nodes are
    ablated by their means instead. `left_out`: how many rows were passed over, and why.
    """

    kind: str
    rows: Ints
    group: NDArray[np.str_]
    clean: Sequence[Encoded]
    twins: Sequence[Encoded] | None
    twin: Ints
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def swapped(first: list[str], second: list[str], rng: np.random.Generator) -> list[Pair]:
    """Two words that both texts share change places in the second: who did what to whom."""
    out = [swap(premise, hypothesis) for premise, hypothesis in zip(first, second, strict=True)]
    return [None if new is None else (one, new) for one, new in zip(first, out, strict=True)]


def negated(first: list[str], second: list[str], rng: np.random.Generator) -> list[Pair]:
    """The second text's first negation becomes a neutral word of its kind, or the reverse."""
    return [
        None if (new := exchanged(text)) is None else (one, new)
        for one, text in zip(first, second, strict=True)
    ]


def exchanged(text: str) -> str | None:
    """`text` with its first negation neutral, else its first neutral word negated; None without."""
    matches = [match for match in WORD.finditer(text) if match.group().lower() in OTHER]
    matches.sort(key=lambda match: match.group().lower() not in NEUTRAL)
    if not matches:
        return None
    word = matches[0]
    new = like(OTHER[word.group().lower()], word.group())
    return text[: word.start()] + new + text[word.end() :]


def other_first(first: list[str], second: list[str], rng: np.random.Generator) -> list[Pair]:
    """The first text of another row with as many words."""
    alike: dict[int, list[int]] = defaultdict(list)
    for row in rng.permutation(len(first)).tolist():
        alike[len(re.findall(r"\S+", first[row]))].append(row)
    out: list[Pair] = [None] * len(first)
    for rows in alike.values():
        for row, donor in zip(rows, rows[1:] + rows[:1], strict=True):
            if first[donor] != first[row]:
                out[row] = (first[donor], second[row])
    return out


TEXTS: dict[str, Callable[[list[str], list[str], np.random.Generator], list[Pair]]] = {
    "swap": swapped,
    "negation": negated,
    "premise": other_first,
}
CORRUPTIONS = ("auto", *TEXTS, "counterfactual", "mean")
"""Kinds of corruption: of texts, of images, and without a twin."""


def possible(sample: AnalysisInput) -> tuple[str, ...]:
    """The kinds that a task's inputs allow, the preferred first."""
    task = sample.task.ctx.task
    if task.modality == "image":
        return ("counterfactual", "mean") if task.counterfactual else ("mean",)
    return ("swap", "negation", "premise", "mean") if len(task.inputs) > 1 else ("negation", "mean")


def find_pairs(sample: AnalysisInput, corruption: str, count: int, seed: int) -> Pairs:
    """`count` pairs of the sample's groups together, of the kind `corruption`.

    "auto" takes the first possible kind that gives every group `FEWEST` pairs, and says so. A pair
    counts only if every subject reads both texts as equally many tokens, and as other ones. Raises
    HarnessError where a kind that was asked for is not to be had.
    """
    if corruption not in CORRUPTIONS:
        raise unknown("corruption", corruption, CORRUPTIONS)
    kinds = possible(sample)
    if corruption != "auto" and corruption not in kinds:
        raise HarnessError(
            f"corruption {corruption!r} cannot be made for task {sample.task.ctx.task.task}; it "
            f"has {', '.join(kinds)}."
        )
    notes: list[str] = []
    for kind in kinds if corruption == "auto" else (corruption,):
        try:
            return made(sample, kind, count, np.random.default_rng(seed), tuple(notes))
        except HarnessError as error:
            if corruption != "auto":
                raise
            notes.append(f"corruption {kind!r} was not used: {error}")
    raise HarnessError("; ".join(notes))


def made(
    sample: AnalysisInput,
    kind: str,
    count: int,
    rng: np.random.Generator,
    notes: tuple[str, ...],
) -> Pairs:
    """Pairs of one kind; HarnessError where there are too few."""
    each = -(-count // len(sample.rows))
    rows_of = {group: rows[: DRAWS * each] for group, rows in sample.rows.items()}
    rows = np.concatenate(list(rows_of.values()))
    group = np.concatenate([np.full(len(these), name) for name, these in rows_of.items()])
    left: Counter[str] = Counter()
    twin, twins = np.arange(len(rows)), None
    if kind != "mean":
        kept, columns = corrupted(sample, kind, rows, rng)
        left[NO_TWIN] = len(rows) - len(kept)
        rows, group = rows[kept], group[kept]
        twins = twins_of(sample, rows, columns) if len(rows) else []
        twin = fitting(sample, rows, twins, left)
        rows, group = rows[twin], group[twin]
    counts = {name: int((group == name).sum()) for name in sample.rows}
    size = min(each, *counts.values())
    fewest = 1 if kind == "mean" else min(FEWEST, each)
    if size < fewest:
        few = min(counts, key=lambda name: counts[name])
        why = "; ".join(f"{number} {reason}" for reason, number in left.items() if number)
        raise HarnessError(
            f"{counts[few]} pairs of kind {kind!r} in group {few!r}, {fewest} are needed"
            f"{f' ({why})' if why else ''}."
        )
    chosen = np.concatenate([np.flatnonzero(group == name)[:size] for name in sample.rows])
    lengths = sample.encoded[0].lengths
    if lengths is not None:  # rows of a batch are of about one length
        chosen = chosen[np.argsort(lengths[rows[chosen]], kind="stable")]
    if kind == "mean":
        notes += ("no twins: a corrupted node says its mean over rows and real positions",)
    return Pairs(
        kind,
        rows[chosen],
        group[chosen],
        sample.encoded,
        twins,
        twin[chosen],
        dict(left),
        notes,
    )


def corrupted(
    sample: AnalysisInput, kind: str, rows: Ints, rng: np.random.Generator
) -> tuple[Ints, dict[str, list[Any]]]:
    """(K,) positions in `rows` that have a twin, and the columns in which twins differ."""
    task = sample.task.ctx.task
    some = sample.split.select(rows)
    if kind == "counterfactual":
        inputs, _ = task.load_attribute(str(task.counterfactual))(some, rng)
        images = {name: [stored_image(value) for value in inputs[name]] for name in inputs}
        return np.arange(len(rows)), images
    first, second = task.inputs[0], task.inputs[-1]
    pairs = TEXTS[kind](list(some.rows[first]), list(some.rows[second]), rng)
    kept = [row for row, pair in enumerate(pairs) if pair is not None]
    columns = {first: [pair[0] for pair in pairs if pair is not None]}
    columns[second] = [pair[1] for pair in pairs if pair is not None]
    return np.array(kept, np.int64), columns


def twins_of(sample: AnalysisInput, rows: Ints, columns: dict[str, list[Any]]) -> list[Encoded]:
    """The twins of `rows` as each subject reads them."""
    split = changed(sample.split, rows, columns)
    return [encoded_for(sample.task, subject, split) for subject in sample.models]


def fitting(
    sample: AnalysisInput, rows: Ints, twins: Sequence[Encoded], left: Counter[str]
) -> Ints:
    """Which of `rows` and their twins all models read as equally many tokens, and as others."""
    fit = np.ones(len(rows), bool)
    for clean, other in zip(sample.encoded, twins, strict=False):  # no twins where no rows are
        unequal = unequal_lengths(clean, rows, other)
        alike = same_inputs(clean, rows, other, ~unequal)
        left[UNEQUAL] += int((fit & unequal).sum())
        left[ALIKE] += int((fit & alike).sum())
        fit &= ~unequal & ~alike
    return np.flatnonzero(fit)


def unequal_lengths(clean: Encoded, rows: Ints, twins: Encoded) -> NDArray[np.bool_]:
    """(K,) whether a row and its twin are of unequal token length."""
    ours, theirs = clean.lengths, twins.lengths
    if ours is None or theirs is None:
        return np.zeros(len(rows), bool)
    return np.not_equal(ours[rows], theirs)


def same_inputs(
    clean: Encoded, rows: Ints, twins: Encoded, where: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(K,) whether a row and its twin are the same model inputs; computed only `where`."""
    out = np.zeros(len(rows), bool)
    for row in np.flatnonzero(where).tolist():
        one, other = clean.batch(rows[row : row + 1]), twins.batch(np.array([row]))
        out[row] = all(bool((one[name] == other[name]).all()) for name in one)
    return out
