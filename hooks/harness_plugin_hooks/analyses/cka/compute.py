"""CKA between the models of a run: by group, with intervals, a null and a ceiling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harness_plugin.analysis.loaded_models import LoadedModel, inputs_of
from harness_plugin.errors import HarnessError
from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.intervals import LEVEL
from harness_plugin.training.encode import Encoded
from harness_plugin_hooks.analyses import percentiles
from harness_plugin_hooks.analyses.cka.options import CKAOptions
from harness_plugin_hooks.analyses.cka.streaming import (
    BLOCKS,
    FEWEST,
    Kernel,
    Similarity,
    StreamingCKA,
    resampled_blocks,
)
from harness_plugin_hooks.analyses.cka.views import Fixed, fitted
from harness_plugin_hooks.analyses.reading import Reader

CALIBRATION = 256
"""Rows on which the views are fitted."""

BATCH, FEW_BATCHES, SMALL_BATCH = 64, 10, 16
"""Rows of a batch; fewer, but not below the last, where there would be too few batches."""

FEW_BLOCKS = 8
"""Fewer blocks of batches give no interval."""

TOKENS = 256
"""Most tokens of a batch that are compared, where tokens are."""


@dataclass(frozen=True)
class Compared:
    """CKA of every layer of one role (A) with every layer of another (B), on one group of rows.

    `replicates` (1 + R, A, B): the mean over seeds, then its resamples (seed x blocks of batches);
    R = 0 where there are too few blocks. `seeds` (S, A, B); `null` (P, A, B): the mean over seeds
    of permuted rows.
    """

    group: str
    view: str
    first: str
    second: str
    first_layers: tuple[str, ...]
    second_layers: tuple[str, ...]
    first_depths: tuple[float, ...]
    second_depths: tuple[float, ...]
    replicates: Floats
    seeds: Floats
    null: Floats
    rows: int

    @property
    def value(self) -> Floats:
        """(A, B) mean over seeds."""
        values: Floats = self.replicates[0]
        return values

    @property
    def bounds(self) -> Floats:
        """(2, A, B) 95% interval; nan where it is not defined."""
        return interval(self.replicates[1:])

    @property
    def null_high(self) -> Floats:
        """(A, B) 95th percentile of the null; nan without permutations."""
        if not len(self.null):
            return np.full(self.value.shape, np.nan)
        high: Floats = np.quantile(self.null, LEVEL, axis=0)
        return high

    @property
    def diagonal(self) -> Ints:
        """(B,) for every layer of the second, the first's layer at the same relative depth."""
        return same_depth(self.first_depths, self.second_depths, self.first_layers)

    @property
    def best(self) -> Ints:
        """(B,) for every layer of the second, the first's layer that is most like it."""
        filled = np.where(np.isnan(self.value), -np.inf, self.value)
        found: Ints = filled.argmax(axis=0)
        return found


def same_depth(first: Sequence[float], second: Sequence[float], first_names: Sequence[str]) -> Ints:
    """For every depth of `second`, the nearest of `first`; head goes with head."""
    last = len(first) - 1
    heads = first_names[last] == "head"
    inside = np.asarray(first[:last] if heads else first)
    found: Ints = np.abs(inside[:, None] - np.asarray(second)).argmin(axis=0)
    if heads:
        found[-1] = last
    return found


def interval(replicates: Floats) -> Floats:
    """(2, …) 95% percentile interval over the first axis; nan with no or undefined replicates."""
    if not len(replicates):
        return np.full((2, *replicates.shape[1:]), np.nan)
    tail = (1 - LEVEL) / 2
    bounds: Floats = np.quantile(replicates, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return bounds


@dataclass(frozen=True)
class Difference:
    """The difference of two similarities at equal depth, layer by layer: (1 + R, B)."""

    what: str
    view: str
    group: str
    layers: tuple[str, ...]
    replicates: Floats


@dataclass(frozen=True)
class SimilarityReport:
    """What the CKA analysis of one evaluation set found."""

    pairs: tuple[Compared, ...]
    ceilings: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    batch: int
    notes: tuple[str, ...]


def compare_models(
    subjects: Sequence[LoadedModel],
    encoded: Sequence[Encoded],
    rows: Mapping[str, Ints],
    options: CKAOptions,
    *,
    device: torch.device,
    quiet: bool = True,
) -> SimilarityReport:
    """CKA of all roles of every seed, and of all seeds of every role, on each group of rows.

    `encoded` are the rows as each subject reads them; `rows` are equally many of each group, in
    random order. A last batch that is not full is left out.
    """
    if len({subject.role for subject in subjects}) < 2:
        raise HarnessError("CKA compares models of at least two roles.")
    readers = [Reader(subject.model, options.pool) for subject in subjects]
    size = min(len(chosen) for chosen in rows.values())
    batch = min(BATCH, max(SMALL_BATCH, size // FEW_BATCHES), size)
    if batch < FEWEST:
        raise HarnessError(f"CKA needs at least {FEWEST} rows of every group, found {size}.")
    reads = Reading(subjects, encoded, readers, options, device)
    views = fitted(options.views, reads(calibration_rows(rows, options.seed)))
    found: dict[str, dict[str, StreamingCKA]] = {}
    for number, (group, chosen) in enumerate(rows.items()):
        streams = {view: stream_of(reads.layers, options, number) for view in options.views}
        batches = chosen[: len(chosen) // batch * batch].reshape(-1, batch)
        for some in tqdm(batches, desc=f"CKA, {group}", disable=quiet, leave=False):
            layers = reads(some)
            for view, stream in streams.items():
                stream.update(seen_through(views[view], layers))
        found[group] = streams
    return report(subjects, readers, found, options, batch)


def stream_of(layers: int, options: CKAOptions, number: int) -> StreamingCKA:
    """The accumulator of one group and view."""
    return StreamingCKA(
        layers,
        kernel=Kernel(options.rbf),
        dtype=torch.float64 if options.float64 else torch.float32,
        permutations=options.permutations,
        seed=options.seed + number,
    )


def calibration_rows(rows: Mapping[str, Ints], seed: int) -> Ints:
    """Some rows of all groups together, sorted."""
    pool = np.unique(np.concatenate(list(rows.values())))
    chosen: Ints = np.random.default_rng(seed).permutation(pool)[:CALIBRATION]
    return np.sort(chosen)


def seen_through(maps: Sequence[Fixed], layers: Sequence[Tensor]) -> list[Tensor]:
    """Every layer's features under the view's map."""
    return [change(layer) for change, layer in zip(maps, layers, strict=True)]


@dataclass
class Reading:
    """Reads all layers of all subjects for some rows: the same rows, in the same order."""

    subjects: Sequence[LoadedModel]
    encoded: Sequence[Encoded]
    readers: Sequence[Reader]
    options: CKAOptions
    device: torch.device

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.options.seed)

    @property
    def layers(self) -> int:
        """Layers of all subjects together."""
        return sum(len(reader.names) for reader in self.readers)

    def __call__(self, rows: Ints) -> list[Tensor]:
        """(n, d_l) of every layer of the first subject, then of the second …"""
        asked = [inputs_of(encoded, rows, self.device) for encoded in self.encoded]
        read = [reader(inputs) for reader, inputs in zip(self.readers, asked, strict=True)]
        if self.options.pool != "tokens":
            return [layer for layers in read for layer in layers]
        check_same_tokens(asked, read)
        chosen = self._some_tokens(len(read[0][0]))
        return [layer[chosen] for layers in read for layer in layers]

    def _some_tokens(self, tokens: int) -> Tensor:
        """Which tokens of a batch are compared, the same in all models."""
        chosen = np.sort(self._rng.permutation(tokens)[:TOKENS])
        return torch.from_numpy(chosen).to(self.device)


def check_same_tokens(
    asked: Sequence[Mapping[str, Tensor]], read: Sequence[Sequence[Tensor]]
) -> None:
    """Refuse models whose tokens do not correspond one to one."""
    masks = [inputs.get("attention_mask") for inputs in asked]
    for mask, layers in zip(masks, read, strict=True):
        same = mask is None or (masks[0] is not None and torch.equal(mask, masks[0]))
        if not same or len(layers[0]) != len(read[0][0]):
            raise HarnessError(
                "pool 'tokens': the models cut the same rows into other tokens, which cannot be "
                "compared one by one; use mean."
            )


def report(
    subjects: Sequence[LoadedModel],
    readers: Sequence[Reader],
    found: Mapping[str, Mapping[str, StreamingCKA]],
    options: CKAOptions,
    batch: int,
) -> SimilarityReport:
    """All sums → values with their intervals."""
    ends = np.cumsum([0, *(len(reader.names) for reader in readers)])
    spans = [slice(start, end) for start, end in pairwise(ends.tolist())]
    seeds = sorted({subject.seed for subject in subjects})
    rng = np.random.default_rng(options.seed)
    shares = percentiles.seed_shares(len(seeds), options.resamples, rng)
    tables, notes = [], []
    for group, streams in found.items():
        batches = next(iter(streams.values())).batches
        resamples = options.resamples if batches >= FEW_BLOCKS else 0
        if not resamples:
            notes.append(f"{group}: no intervals, {batches} batches are fewer than {FEW_BLOCKS}")
        counts = resampled_blocks(min(batches, BLOCKS), resamples, rng)
        for view, stream in streams.items():
            for members, weights in comparisons(subjects, shares[:, : len(counts)]):
                a, b = members[0]
                similar = [stream.between(spans[one], spans[other]) for one, other in members]
                replicates, each, null = averaged(similar, counts, weights)
                tables.append(
                    Compared(
                        group=group,
                        view=view,
                        first=subjects[a].role,
                        second=subjects[b].role,
                        first_layers=readers[a].names,
                        second_layers=readers[b].names,
                        first_depths=readers[a].depths,
                        second_depths=readers[b].depths,
                        replicates=replicates,
                        seeds=each,
                        null=null,
                        rows=stream.rows,
                    )
                )
    if len(seeds) < 2:
        notes.append("no ceiling: it takes two seeds of one role")
    pairs = tuple(table for table in tables if table.first != table.second)
    ceilings = tuple(table for table in tables if table.first == table.second)
    differences = (*between_groups(pairs), *student_and_control(pairs))
    return SimilarityReport(pairs, ceilings, differences, batch, tuple(notes))


def comparisons(
    subjects: Sequence[LoadedModel], shares: Floats
) -> Iterator[tuple[list[tuple[int, int]], Floats]]:
    """Which subjects are compared, and how their values are averaged: weights (S, 1 + R).

    Every two roles, seed by seed; then the seeds of every role with each other, in equal parts.
    """
    index = {(subject.role, subject.seed): i for i, subject in enumerate(subjects)}
    roles = list(dict.fromkeys(subject.role for subject in subjects))
    seeds = sorted({subject.seed for subject in subjects})
    for first, second in combinations(roles, 2):
        yield [(index[first, seed], index[second, seed]) for seed in seeds], shares
    for role in roles:
        members = [(index[role, a], index[role, b]) for a, b in combinations(seeds, 2)]
        if members:
            yield members, np.full((len(members), shares.shape[1]), 1 / len(members))


def averaged(
    similar: Sequence[Similarity], counts: Floats, shares: Floats
) -> tuple[Floats, Floats, Floats]:
    """(1 + R, A, B) means over members (seeds, pairs of seeds), (S, A, B) each, (P, A, B) null.

    Blocks are drawn alike for all members: they saw the same rows.
    """
    mean = np.zeros((len(counts), *similar[0].cross.shape[1:]))
    for each, share in zip(similar, shares, strict=True):
        mean += share[:, None, None] * each.weighted(counts)
    null = np.mean([each.permuted for each in similar], axis=0)
    return mean, np.stack([each.value for each in similar]), null


def at_equal_depth(compared: Compared) -> Floats:
    """(1 + R, B) of the second's layers with the first's at the same relative depth."""
    return compared.replicates[:, compared.diagonal, np.arange(len(compared.second_layers))]


def between_groups(pairs: Sequence[Compared]) -> Iterator[Difference]:
    """Similarity on conflicting rows minus that on aligned rows. Rows differ, resamples do too."""
    table = {(p.group, p.view, p.first, p.second): p for p in pairs}
    for (group, view, first, second), p in table.items():
        other = table.get(("conflicting", view, first, second))
        if group == "aligned" and other is not None:
            what = f"{first} ~ {second}: conflicting - aligned"
            both = difference(at_equal_depth(other), at_equal_depth(p))
            yield Difference(what, view, "", p.second_layers, both)


def student_and_control(pairs: Sequence[Compared]) -> Iterator[Difference]:
    """How much more like the teacher the student is than the control, on the same rows."""
    table = {(p.group, p.view, p.first, p.second): p for p in pairs}
    for (group, view, first, second), p in table.items():
        control = table.get((group, view, first, "control"))
        if first != "teacher" or not second.startswith("student") or control is None:
            continue
        if control.second_layers == p.second_layers:
            what = f"teacher ~ {second} - teacher ~ control"
            both = difference(at_equal_depth(p), at_equal_depth(control))
            yield Difference(what, view, group, p.second_layers, both)


def difference(one: Floats, other: Floats) -> Floats:
    """(1 + R, B) of two arrays; no resamples where one side has none."""
    size = min(len(one), len(other))
    return one[:size] - other[:size]


def p_value(value: float, null: Floats) -> float:
    """Share of permutations that reach `value` (Phipson and Smyth 2010); nan without any."""
    if not len(null) or math.isnan(value):
        return math.nan
    return float((1 + np.count_nonzero(null >= value)) / (1 + len(null)))
