"""Whose answers change: row by row, from one model to another, beside what seeds change alone.

Equal accuracies can hide many changed answers, and these need not be spread evenly: compression
forgets some examples more than others (Hooker et al. 2020, arXiv:2010.03058).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness_plugin.records import Flips, Floats, Ints, Predictions
from harness_plugin.scoring.measure import subsets_of
from harness_plugin.scoring.pairing import PairedPredictions, first_of
from harness_plugin.scoring.statistics.significance import holm, mcnemar

MARGIN_BINS = 10
Bools = NDArray[np.bool_]


def flips_of(
    split: str, paired: PairedPredictions, student: str, others: Sequence[str]
) -> Iterator[Flips]:
    """The flips from each of `others` to `student`: all rows, then every part of the set."""
    for other in others:
        if other != student and other in paired:
            yield from flips_between(split, paired, student, other)


def flips_between(split: str, paired: PairedPredictions, new: str, old: str) -> list[Flips]:
    """The flips from role `old` to role `new`, seed by seed.

    Parts of the set are its groups, the values of its bias types, and tenths of the rows by the
    margin of the old model (its best probability minus the second). Each kind of part is a family
    of tests for Holm's adjustment, over its parts and all seeds.
    """
    pairs = list(zip(paired[old], paired[new], strict=True))
    before = np.stack([a.predicted for a, _ in pairs])
    after = np.stack([b.predicted for _, b in pairs])
    right = np.stack([a.correct for a, _ in pairs])
    fixed = np.stack([b.correct for _, b in pairs])
    changed = before != after
    between = [
        np.mean([a != b for a, b in itertools.combinations(answers, 2)], axis=0)
        for answers in (before, after)
        if len({x.tobytes() for x in answers}) > 1
    ]
    expected = np.mean(between, axis=0) if between else None
    modal = mode(before) != mode(after)
    flips = []
    for family in parts(paired, old):
        p = adjusted([mcnemar(right & rows, fixed & rows) for rows in family.values()])
        for (subset, rows), p_value in zip(family.items(), p, strict=True):
            n = int(rows.sum()) // len(pairs)
            if not n:
                continue

            def share(kind: Bools, rows: Bools = rows) -> float:
                return float((kind & rows).sum() / rows.sum())

            flips.append(
                Flips(
                    student=new,
                    split=split,
                    other=old,
                    subset=subset,
                    n=n,
                    changed=share(changed),
                    lost=share(changed & right),
                    repaired=share(changed & fixed),
                    other_wrong=share(changed & ~right & ~fixed),
                    modal=share(np.broadcast_to(modal, rows.shape)),
                    expected=None
                    if expected is None
                    else float((expected * rows).sum() / rows.sum()),
                    p=p_value,
                )
            )
    return flips


def parts(paired: PairedPredictions, old: str) -> Iterator[Mapping[str, Bools]]:
    """Families of parts: name -> (S, N) mask, the same for all seeds but where margins decide."""
    p = first_of(paired)
    shape = (len(paired[old]), len(p))

    def whole(rows: Bools) -> Bools:
        return np.broadcast_to(rows, shape)

    yield {"": whole(np.ones(len(p), dtype=bool))}
    yield {
        f"group={name}": whole(rows) for name, rows in zip(p.groups, p.membership.T, strict=True)
    }
    values = dict(subsets_of(p))
    for breakdown in p.breakdowns:
        yield {
            name: whole(rows) for name, rows in values.items() if name.startswith(f"{breakdown}=")
        }
    if not any(x.labels_only for x in paired[old]) and len(p) >= MARGIN_BINS:
        tenths = np.stack([tenth_by_margin(x) for x in paired[old]])
        yield {
            f"margin={100 * k // MARGIN_BINS}-{100 * (k + 1) // MARGIN_BINS}%": tenths == k
            for k in range(MARGIN_BINS)
        }


def tenth_by_margin(p: Predictions) -> Ints:
    """(N,) 0 for the tenth of the rows that the model is least sure of, to 9."""
    best = np.sort(p.probabilities, axis=1)[:, -2:]
    margin: Floats = best[:, 1] - best[:, 0]
    rank = np.empty(len(p), dtype=np.int64)
    rank[np.argsort(margin, kind="stable")] = np.arange(len(p))
    return rank * MARGIN_BINS // len(p)


def mode(answers: Ints) -> Ints:
    """(N,) the most frequent answer over seeds (S, N), the lowest label among equals."""
    size = int(answers.max()) + 1
    votes = np.stack([(answers == label).sum(axis=0) for label in range(size)])
    most: Ints = votes.argmax(axis=0)
    return most


def adjusted(p_values: Sequence[Floats]) -> list[float]:
    """The smallest p-value of each part after Holm over all parts and seeds."""
    if not p_values:
        return []
    family = np.array(p_values)
    smallest: list[float] = holm(family.ravel()).reshape(family.shape).min(axis=-1).tolist()
    return smallest


def sentence(flips: Sequence[Flips]) -> str:
    """A sentence on one student and set: how many answers changed, and whose."""
    whole = next(f for f in flips if not f.subset)
    noise = "" if whole.expected is None else f" ({whole.expected:.1%} between seeds)"
    words = (
        f"{whole.student} on {whole.split}: {whole.changed:.1%} of answers differ from "
        f"{whole.other}'s{noise}; {whole.lost:.1%} right to wrong, {whole.repaired:.1%} wrong to "
        "right"
    )
    groups = [f for f in flips if f.subset.startswith("group=")]
    total = sum(f.lost * f.n for f in groups)
    if total and whole.lost * whole.n >= 1:
        most = max(groups, key=lambda f: f.lost * f.n)
        name, share = most.subset.partition("=")[2], most.lost * most.n / total
        words += f"; {share:.0%} of the lost ones in {name}"
        words += f", which has {most.n / whole.n:.0%} of the rows"
    return f"{words}."
