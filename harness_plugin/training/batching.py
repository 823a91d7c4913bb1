"""Which rows make up which update: seeded, length-bucketed, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

MEGABATCH = 50
"""Batches sorted by length together: enough to save padding, few enough to stay shuffled."""


def updates_per_epoch(rows: int, batch_size: int) -> int:
    """Updates in one pass over `rows`."""
    return -(-rows // batch_size)


def epoch(
    rows: int,
    batch_size: int,
    *,
    seed: int,
    number: int,
    lengths: Ints | None = None,
    weights: NDArray[np.float64] | None = None,
) -> list[Ints]:
    """The batches of epoch `number`: arrays of row numbers, sizes equal to within one.

    Without `weights` every row comes once; with weights (N,), `rows` rows are drawn with
    replacement, in proportion. With `lengths` (N,), rows of similar length share a batch: the
    shuffled order is cut into megabatches, each is sorted by length and cut into batches, and the
    batches are shuffled.
    """
    rng = np.random.default_rng([seed, number])
    if weights is None:
        order = rng.permutation(rows)
    else:
        order = rng.choice(rows, size=rows, replace=True, p=weights / weights.sum())
    total = updates_per_epoch(rows, batch_size)
    if lengths is None:
        return list(np.array_split(order, total))
    batches: list[Ints] = []
    for part in split_into(order, total, MEGABATCH):
        ordered, count = part
        ordered = ordered[np.argsort(lengths[ordered], kind="stable")]
        batches.extend(np.array_split(ordered, count))
    return [batches[i] for i in rng.permutation(len(batches))]


def split_into(order: Ints, total: int, most: int) -> Iterator[tuple[Ints, int]]:
    """Cut `order` into megabatches of at most `most` of its `total` batches."""
    bounds = np.linspace(0, len(order), total + 1).round().astype(np.int64)
    for start in range(0, total, most):
        stop = min(start + most, total)
        yield order[bounds[start] : bounds[stop]], stop - start


def evaluation_batches(rows: int, batch_size: int, lengths: Ints | None) -> list[Ints]:
    """All rows once, longest first (so that memory runs out at once or never)."""
    order = np.arange(rows)
    if lengths is not None:
        order = order[np.argsort(-lengths, kind="stable")]
    return np.array_split(order, updates_per_epoch(rows, batch_size))


def bounds(rows: int, rank: int, processes: int) -> tuple[int, int]:
    """First and past-the-last of the rows of a batch that process `rank` computes."""
    size, rest = divmod(rows, processes)
    start = rank * size + min(rank, rest)
    return start, start + size + (rank < rest)
