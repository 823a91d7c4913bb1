"""Which rows make up which update: seeded, whatever the number of processes.

Rows of similar length share a batch, so that little is padded; where rows are drawn by weight,
without a change of what a batch is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

MEGABATCH = 50
"""Batches sorted by length together: enough to save padding, few enough to stay shuffled."""
SAVING = 0.2
"""Share of a batch's tokens that a further part must save."""


def updates_per_epoch(rows: int, batch_size: int) -> int:
    """Updates in one pass over `rows`."""
    return -(-rows // batch_size)


@dataclass(frozen=True, eq=False)
class WeightedRows:
    """Rows that are drawn with replacement, in proportion to `weights` (N,) float64 >= 0.

    `strata` (N,) int64: rows of one stratum may stand in for each other in a batch. Nothing else
    of a batch depends on the lengths of its rows.
    """

    weights: NDArray[np.float64]
    strata: Ints

    @classmethod
    def of(
        cls, weights: NDArray[np.float64], columns: Sequence[Ints], batch_size: int
    ) -> WeightedRows:
        """Rows that agree in all `columns` (N,) and in weight make a stratum.

        Weights of more values than a batch has rows (a gradient norm, not a group's share) tell
        no strata apart.
        """
        values, kind = np.unique(weights, return_inverse=True)
        known = [*columns, kind] if len(values) <= batch_size else [*columns, np.zeros_like(kind)]
        _, strata = np.unique(np.stack(known), axis=1, return_inverse=True)
        return cls(weights, strata.reshape(-1).astype(np.int64))


def epoch(
    rows: int,
    batch_size: int,
    *,
    seed: int,
    number: int,
    lengths: Ints | None = None,
    weighted: WeightedRows | None = None,
) -> list[Ints]:
    """The batches of epoch `number`: arrays of row numbers, sizes equal to within one.

    Every row comes once, or as `weighted` says (`weighted_batches`). With `lengths` (N,), rows of
    similar length share a batch: the shuffled order is cut into megabatches, each is sorted by
    length and cut into batches, and the batches are shuffled.
    """
    rng = np.random.default_rng([seed, number])
    total = updates_per_epoch(rows, batch_size)
    if weighted is not None:
        sizes = np.array([len(part) for part in np.array_split(np.arange(rows), total)])
        return weighted_batches(rng, sizes, weighted, lengths)
    order = rng.permutation(rows)
    if lengths is None:
        return list(np.array_split(order, total))
    batches: list[Ints] = []
    for part in split_into(order, total, MEGABATCH):
        ordered, count = part
        ordered = ordered[np.argsort(lengths[ordered], kind="stable")]
        batches.extend(np.array_split(ordered, count))
    return [batches[i] for i in rng.permutation(len(batches))]


def weighted_batches(
    rng: np.random.Generator, sizes: Ints, weighted: WeightedRows, lengths: Ints | None
) -> list[Ints]:
    """Batches of `sizes` (K,) rows, each with the numbers of every stratum that independent draws
    give, and with distinct rows of similar length.

    Sorting independent draws by length would gather the copies of a rare row, and a whole group
    where lengths differ by group, in one batch. Here a batch first draws how many rows of each
    stratum it takes (multinomial). The rows of a stratum stand on a circle, each on an arc of its
    share of the stratum's weight, lengths rising on one half and falling on the other; a batch
    takes equally spaced points from the same part of every circle. A row's expected copies are
    those of independent draws, and a batch has two copies of it only where the row's share of the
    points is above one, as when a batch draws six rows of a stratum of four.
    """
    batches = len(sizes)
    mass = np.bincount(weighted.strata, weights=weighted.weights)
    counts = rng.multinomial(sizes, mass / mass.sum())
    start = (rng.permutation(batches) + rng.random(batches)) / batches
    rows, batch_of = [], []
    for stratum in np.flatnonzero(mass):
        members = np.flatnonzero((weighted.strata == stratum) & (weighted.weights > 0))
        members = on_a_circle(rng, members, lengths)
        ends = np.cumsum(weighted.weights[members])
        largest_share = weighted.weights[members].max() / ends[-1]
        count = counts[:, stratum]
        # the least spread that keeps copies apart, and more, so that neighbours change
        spread = count * largest_share * rng.uniform(1, 3, batches)
        spread = np.clip(spread, 1 / min(batches, MEGABATCH), 1)
        batch = np.repeat(np.arange(batches), count)
        nth = np.arange(len(batch)) - np.repeat(np.cumsum(count) - count, count)
        points = (start[batch] + spread[batch] * nth / count[batch]) % 1
        rows.append(members[np.searchsorted(ends / ends[-1], points, side="right")])
        batch_of.append(batch)
    drawn, batch = np.concatenate(rows), np.concatenate(batch_of)
    # shuffled within a batch: processes and accumulation steps share it by position
    order = np.lexsort((rng.random(len(drawn)), batch))
    return np.split(drawn[order], np.cumsum(sizes)[:-1])


def on_a_circle(rng: np.random.Generator, members: Ints, lengths: Ints | None) -> Ints:
    """Row numbers in an order in which neighbours, last and first too, have similar lengths."""
    members = rng.permutation(members)
    if lengths is None:
        return members
    rising = members[np.argsort(lengths[members], kind="stable")]
    return np.concatenate([rising[::2], rising[1::2][::-1]])


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


def shares_by_length(batch: Ints, lengths: Ints | None, processes: int) -> Ints:
    """The rows of a batch, each process's share sorted by length; no row changes its process."""
    if lengths is None:
        return batch
    shares = [batch[slice(*bounds(len(batch), rank, processes))] for rank in range(processes)]
    return np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in shares])


def parts_by_length(lengths: Ints | None, start: int, stop: int) -> list[slice]:
    """Rows `start` to `stop` of a batch in parts, each of which is padded to its own longest row.

    `lengths` (B,) rise from `start` to `stop`. A short row beside a long one costs what the long
    one costs; a further part costs a call of the model, so there is one only where it saves a
    fifth of the tokens.
    """
    parts = [slice(start, stop)]
    if lengths is None:
        return parts
    tokens = (stop - start) * int(lengths[stop - 1])
    while True:
        cuts = [best_cut(lengths, part) for part in parts]
        saved, number = max((saved, number) for number, (saved, _) in enumerate(cuts))
        if saved < SAVING * tokens:
            return parts
        part, cut, tokens = parts[number], cuts[number][1], tokens - saved
        parts[number : number + 1] = [slice(part.start, cut), slice(cut, part.stop)]


def best_cut(lengths: Ints, part: slice) -> tuple[int, int]:
    """The tokens that the best cut of a part saves, and where it is; rows before it are shorter."""
    cut = np.arange(part.start, part.stop)
    saved = (cut - part.start) * (lengths[part.stop - 1] - lengths[cut - 1])
    best = int(saved.argmax())
    return int(saved[best]), int(cut[best])
