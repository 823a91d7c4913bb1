"""The embedded source: a small NLI grammar with a planted word-overlap cue and a HANS-like test.

Every sentence is filled in from a frame: a premise pattern, a hypothesis pattern and the relation
between them. Capitals are slots: A, B, C three different people, V what one does to another, I
what one does alone, P a place word, D a time. The relation holds for every filling, because

- who did what is fixed by the form: "the A V the B" says it of A; the passive "the A was V by the
  B" and the object relative "the A who the B V" say that B did it to A;
- a predicate belongs to its own subject: in "the A near the B I", "the A who V the B I" and "the A
  who the B V I" the verb I is said of A, not of B;
- places, times and relative clauses only add to what is said: "the A V the B near the C", "the A V
  the B who I" and "today the A V the B" assert that the A V the B;
- "because X Y" asserts both clauses, "if X Y" neither, and "perhaps X" does not assert X;
- the two words of an entry of the lexicon mean the same; different entries are independent, so a
  hypothesis with an entry that the premise lacks never follows (open world).

Non-entailment means "does not follow". The heuristics are those of McCoy et al. (2019), table 1:
a `constituent` hypothesis is a complete clause inside the premise, a `subsequence` hypothesis is
contiguous in the premise but no clause of it, a `lexical_overlap` hypothesis is neither.

All splits are drawn independently from the same frames, so that a method can learn the frames of
the test; about 3% of the test pairs, short ones, are in the training set word for word as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from harness_plugin.data.dataset import DataRequest, Ints, Purpose, Split, TaskData
from harness_plugin.errors import HarnessError
from harness_plugin_tasks._shared.options import share, whole_number
from harness_plugin_tasks._shared.text.cues import OVERLAP_CUE
from harness_plugin_tasks._shared.text.splits import cue_split
from harness_plugin_tasks._shared.text.tables import generated_table
from harness_plugin_tasks.hans.evaluation import (
    COLLAPSE,
    HANS_GROUPS,
    HANS_LABELS,
    HEURISTICS,
    clusters_of,
    hans_split,
)

ENTAILMENT, NON_ENTAILMENT = HANS_LABELS

PEOPLE = (
    ("doctor", "physician"),
    ("lawyer", "attorney"),
    ("author", "writer"),
    ("student", "pupil"),
    ("teacher", "instructor"),
    ("guard", "sentry"),
    ("pilot", "aviator"),
    ("singer", "vocalist"),
    ("merchant", "trader"),
    ("thief", "robber"),
)
DEEDS = (
    ("helped", "assisted"),
    ("stopped", "halted"),
    ("praised", "commended"),
    ("hired", "employed"),
    ("tricked", "deceived"),
    ("hugged", "embraced"),
)
ACTS = (
    ("departed", "left"),
    ("shouted", "yelled"),
    ("sobbed", "wept"),
    ("fell", "tumbled"),
)
REPLACED = 0.75
"""Chance of each word of an unrelated hypothesis to be new; one is new in any case."""
PLACES = ("near", "behind")
TIMES = ("today", "yesterday")
SLOTS = {"A": PEOPLE, "B": PEOPLE, "C": PEOPLE, "V": DEEDS, "I": ACTS}
"""The slots of words with a meaning to compare; P and D are never compared."""


@dataclass(frozen=True)
class Frame:
    """A premise and a hypothesis pattern whose relation is the same for every filling."""

    heuristic: str
    label: str
    subcase: str
    premise: str
    hypothesis: str

    @cached_property
    def compared(self) -> tuple[int, ...]:
        """Positions in SLOTS of the slots that the hypothesis fills."""
        return tuple(i for i, slot in enumerate(SLOTS) if slot in self.hypothesis.split())


def frames(heuristic: str, label: str, table: str) -> tuple[Frame, ...]:
    """The frames of a table with the lines "subcase | premise | hypothesis"."""
    rows = ((cell.strip() for cell in line.split("|")) for line in table.strip().splitlines())
    return tuple(Frame(heuristic, label, *row) for row in rows)


FRAMES = (
    *frames(
        "lexical_overlap",
        ENTAILMENT,
        """
        le_passive                | the A was V by the B      | the B V the A
        le_relative_clause        | the A who the B V I       | the B V the A
        le_around_relative        | the A who V the B I       | the A I
        le_around_preposition     | the A P the B I           | the A I
        """,
    ),
    *frames(
        "lexical_overlap",
        NON_ENTAILMENT,
        """
        ln_passive                | the A was V by the B      | the A V the B
        ln_relative_clause        | the A who the B V I       | the A V the B
        ln_swap                   | D the A V the B           | the B V the A
        """,
    ),
    *frames(
        "subsequence",
        ENTAILMENT,
        """
        se_preposition_on_object  | the A V the B P the C     | the A V the B
        se_relative_on_object     | the A V the B who I       | the A V the B
        """,
    ),
    *frames(
        "subsequence",
        NON_ENTAILMENT,
        """
        sn_preposition_on_subject | the A P the B I           | the B I
        sn_relative_on_subject    | the A who V the B I       | the B I
        """,
    ),
    *frames(
        "constituent",
        ENTAILMENT,
        """
        ce_because                | because the A I the B V the C | the A I
        ce_because                | because the A I the B V the C | the B V the C
        ce_adverb                 | D the A V the B           | the A V the B
        """,
    ),
    *frames(
        "constituent",
        NON_ENTAILMENT,
        """
        cn_if                     | if the A I the B V the C  | the A I
        cn_if                     | if the A I the B V the C  | the B V the C
        cn_adverb                 | perhaps the A V the B     | the A V the B
        """,
    ),
)


class Pair(NamedTuple):
    """One example: the two sentences, how they are related, and the frame they come from."""

    premise: str
    hypothesis: str
    label: str
    frame: Frame


def load(request: DataRequest) -> TaskData:
    """The splits `train`, `id` (drawn alike) and `hans`; a function of the options and the seed.

    Labels are entailment and non-entailment in all three. Groups of train and id are label x
    overlap. The cue agrees with the label in exactly the share `bias_rate` of each label's pairs,
    up to rounding; the small cells have `rare_rows` rows each. Training pairs that stand in a test
    set are left out (about 1%), and validation pairs that stand in either. `hans` has full overlap
    in every row, and the same number of rows in each of its six groups.

    Raises HarnessError for sizes that leave a cell empty.
    """
    sizes = {name: whole_number(request, f"n_{name}") for name in ("train", "validation", "id")}
    bias_rate = share(request, "bias_rate")
    cells = len(HANS_GROUPS)
    per_cell = whole_number(request, "n_hans") // cells
    if not per_cell:
        raise HarnessError(f"hans.n_hans must be at least {cells}, one pair a group.")
    # a stream of its own for every split, so that the size of one leaves the others as they are
    streams = np.random.default_rng(request.seed).spawn(4)
    train = biased_pairs(streams[0], sizes["train"], bias_rate)
    validation = biased_pairs(streams[3], sizes["validation"], bias_rate)
    tests = biased_pairs(streams[1], sizes["id"], bias_rate), hans_pairs(streams[2], per_cell)
    splits = [
        biased_split("train", "train", unseen(train, *tests)),
        biased_split("validation", "validation", unseen(validation, train, *tests)),
        collapsing(biased_split("id", "in_domain", tests[0]), request),
        collapsing(test_split(tests[1], request.options["cluster"]), request),
    ]
    note = f"embedded: generated, not the real sets; the cue holds in {bias_rate:.1%} of train"
    return TaskData("hans", request.source, {split.name: split for split in splits}, (note,))


def biased_split(name: str, purpose: Purpose, pairs: Sequence[Pair]) -> Split:
    """The split of pairs in which word overlap is the cue."""
    columns = {
        "premise": [pair.premise for pair in pairs],
        "hypothesis": [pair.hypothesis for pair in pairs],
        "label": [pair.label for pair in pairs],
    }
    table = generated_table(name, columns)
    return cue_split(name, purpose=purpose, table=table, cue=OVERLAP_CUE, labels=HANS_LABELS)


def collapsing(split: Split, request: DataRequest) -> Split:
    """The set as models of three labels answer it, too; those of its own two need no collapse."""
    return replace(split, collapse=COLLAPSE, collapse_rule=request.options["collapse"])


def test_split(pairs: Sequence[Pair], by: str) -> Split:
    """The split of pairs in which the cue says nothing; a model predicts the same two labels.

    Its frames are all that this grammar has, and are in every split: pairs are independent draws of
    the grammar, unless option cluster (`by`) asks how far a result holds for other frames.
    """
    subcases = [pair.frame.subcase for pair in pairs]
    return hans_split(
        premises=[pair.premise for pair in pairs],
        hypotheses=[pair.hypothesis for pair in pairs],
        ids=[f"hans-{row:06d}" for row in range(len(pairs))],
        label_texts=[pair.label for pair in pairs],
        heuristics=[pair.frame.heuristic for pair in pairs],
        subcases=subcases,
        clusters=clusters_of(
            "none" if by == "auto" else by,
            [f"{pair.frame.premise}: {pair.frame.hypothesis}" for pair in pairs],
            subcases,
        ),
        three_way=False,
    )


def unseen(pairs: Sequence[Pair], *tests: Sequence[Pair]) -> list[Pair]:
    """The pairs that stand in none of `tests`: a small grammar says some things twice."""
    tested = {(pair.premise, pair.hypothesis) for test in tests for pair in test}
    return [pair for pair in pairs if (pair.premise, pair.hypothesis) not in tested]


def rare_rows(n: int, bias_rate: float) -> int:
    """Rows of each of the two cells in which the cue disagrees with the label, of `n` in all."""
    return round(n * (1 - bias_rate) / 2)


def biased_pairs(rng: np.random.Generator, n: int, bias_rate: float) -> list[Pair]:
    """`n` shuffled pairs, half of them entailed, with exact counts of the four cells."""
    entailed, other = of(ENTAILMENT), of(NON_ENTAILMENT)
    rare = rare_rows(n, bias_rate)
    common = (n // 2 - rare, n - n // 2 - rare)
    if min(rare, *common) < 1:
        raise HarnessError(
            f"hans: {n} pairs at hans.bias_rate={bias_rate} leave a cell of label x overlap "
            "empty; ask for more pairs or another rate."
        )
    pairs = [
        *related(rng, choose(rng, entailed, common[0]), synonyms=False),
        *related(rng, choose(rng, entailed, rare), synonyms=True),
        *related(rng, choose(rng, other, rare), synonyms=False),
        *unrelated(rng, choose(rng, FRAMES, common[1])),
    ]
    return [pairs[i] for i in rng.permutation(n)]


def hans_pairs(rng: np.random.Generator, per_cell: int) -> list[Pair]:
    """Shuffled pairs with full overlap: `per_cell` of every heuristic and label."""
    pairs: list[Pair] = []
    for heuristic in HEURISTICS:
        for label in HANS_LABELS:
            pairs += related(rng, choose(rng, of(label, heuristic), per_cell), synonyms=False)
    return [pairs[i] for i in rng.permutation(len(pairs))]


def of(label: str, heuristic: str | None = None) -> tuple[Frame, ...]:
    """The frames of a relation, and of a heuristic if one is given."""
    return tuple(f for f in FRAMES if f.label == label and heuristic in (None, f.heuristic))


def choose(rng: np.random.Generator, frames: Sequence[Frame], n: int) -> list[Frame]:
    """`n` frames: heuristics equally likely, then the subcases of each, then the frames of each."""
    subcases = Counter(heuristic for heuristic, _ in {(f.heuristic, f.subcase) for f in frames})
    variants = Counter(f.subcase for f in frames)
    weights = np.array([1 / (subcases[f.heuristic] * variants[f.subcase]) for f in frames])
    return [frames[i] for i in rng.choice(len(frames), n, p=weights / weights.sum())]


def related(rng: np.random.Generator, chosen: Sequence[Frame], *, synonyms: bool) -> list[Pair]:
    """One pair a frame, with the frame's label.

    The hypothesis uses the premise's own words, or for every one of them its synonym.
    """
    words, _ = entries(rng, len(chosen))
    word = rng.integers(0, 2, words.shape)
    hypotheses = spell(words, 1 - word if synonyms else word)
    return pairs_of(rng, chosen, [f.label for f in chosen], spell(words, word), hypotheses)


def unrelated(rng: np.random.Generator, chosen: Sequence[Frame]) -> list[Pair]:
    """One pair a frame whose hypothesis has one or more entries that the premise lacks."""
    words, lacking = entries(rng, len(chosen))
    word, other = rng.integers(0, 2, (2, *words.shape))
    replaced = rng.random(words.shape) < REPLACED
    for row, (frame, u) in enumerate(zip(chosen, rng.random(len(chosen)), strict=True)):
        replaced[row, frame.compared[int(u * len(frame.compared))]] = True
    hypotheses = spell(np.where(replaced, lacking, words), other)
    return pairs_of(rng, chosen, [NON_ENTAILMENT] * len(chosen), spell(words, word), hypotheses)


def entries(rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """(n, 5) lexicon entries for the slots of `n` premises, and as many that each premise lacks."""
    people, deeds, acts = (shuffles(rng, n, len(lexicon)) for lexicon in (PEOPLE, DEEDS, ACTS))
    return (
        np.column_stack([people[:, :3], deeds[:, 0], acts[:, 0]]),
        np.column_stack([people[:, 3:6], deeds[:, 1], acts[:, 1]]),
    )


def shuffles(rng: np.random.Generator, n: int, size: int) -> Ints:
    """(n, size) independent shuffles of 0 .. size - 1."""
    return rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1)


def spell(entry: Ints, word: Ints) -> list[dict[str, str]]:
    """For every row, slot -> word, from (n, 5) lexicon entries and which of its two words."""
    return [
        {
            slot: lexicon[e][w]
            for (slot, lexicon), e, w in zip(SLOTS.items(), row, words, strict=True)
        }
        for row, words in zip(entry.tolist(), word.tolist(), strict=True)
    ]


def pairs_of(
    rng: np.random.Generator,
    chosen: Sequence[Frame],
    labels: Sequence[str],
    premises: Sequence[Mapping[str, str]],
    hypotheses: Sequence[Mapping[str, str]],
) -> list[Pair]:
    """The pairs of frames, labels and the words of both sentences, row by row."""
    places = rng.choice(PLACES, len(chosen)).tolist()
    times = rng.choice(TIMES, len(chosen)).tolist()
    rows = zip(chosen, labels, premises, hypotheses, places, times, strict=True)
    return [
        Pair(
            render(frame.premise, {**premise, "P": place, "D": time}),
            render(frame.hypothesis, hypothesis),
            label,
            frame,
        )
        for frame, label, premise, hypothesis, place, time in rows
    ]


def render(pattern: str, words: Mapping[str, str]) -> str:
    """The sentence of a pattern: every slot replaced by its word."""
    return " ".join(words.get(word, word) for word in pattern.split())
