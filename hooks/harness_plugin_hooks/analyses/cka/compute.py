"""CKA between the models of a run: by group, with intervals, a null and a ceiling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor

from harness_plugin.analysis.loaded_models import LoadedModel, inputs_of, twins
from harness_plugin.errors import HarnessError
from harness_plugin.machine.progress import worked
from harness_plugin.records import Floats, Ints
from harness_plugin.scoring.statistics.intervals import LEVEL, Interval, bounds, components
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.analyses.cka.options import CKAOptions
from harness_plugin_hooks.analyses.cka.streaming import (
    BLOCKS,
    FEWEST,
    Kernel,
    StreamingCKA,
    resampled_blocks,
)
from harness_plugin_hooks.analyses.cka.views import Fixed, fitted
from harness_plugin_hooks.analyses.reading import Reader

CALIBRATION = 256
"""Rows on which the views are fitted."""

BATCH, FEW_BATCHES, SMALL_BATCH = 64, 10, 16
"""Rows of a batch; fewer, but not below the last, where there would be too few batches."""

WINDOW = 256
"""Rows that are read at a time, by length. Which make a batch is chance: length is no condition."""

FEW_BLOCKS = 8
"""Fewer blocks of batches give no interval. As many rows in each, they need not be many."""

TOKENS = 256
"""Most tokens of a batch that are compared, where tokens are."""


@dataclass(frozen=True)
class Compared:
    """CKA of every layer of one role (A) with every layer of another (B), on one group of rows.

    `value`, `low`, `high` (A, B): the mean over seeds with its 95% interval, nan where it has none;
    `no_interval` says why. `seeds` (M, A, B): of every seed, or pair of seeds. `null` (P, A, B):
    the mean over seeds of permuted rows. `at_equal_depth` (B, S, 1 + R): of the second's layers
    with the first's at the same relative depth, of every seed, then its resamples over blocks.
    """

    group: str
    view: str
    first: str
    second: str
    first_layers: tuple[str, ...]
    second_layers: tuple[str, ...]
    first_depths: tuple[float, ...]
    second_depths: tuple[float, ...]
    value: Floats
    low: Floats
    high: Floats
    no_interval: str
    seeds: Floats
    null: Floats
    at_equal_depth: Floats
    blocks: int
    rows: int

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
        nearest: Ints = filled.argmax(axis=0)
        return nearest


def same_depth(first: Sequence[float], second: Sequence[float], first_names: Sequence[str]) -> Ints:
    """For every depth of `second`, the nearest of `first`; head goes with head."""
    last = len(first) - 1
    heads = first_names[last] == "head"
    inside = np.asarray(first[:last] if heads else first)
    nearest: Ints = np.abs(inside[:, None] - np.asarray(second)).argmin(axis=0)
    if heads:
        nearest[-1] = last
    return nearest


def interval(values: Floats, blocks: int, limits: tuple[float, float]) -> Interval:
    """The means over seeds of (…, S, 1 + R) with 95% bounds within `limits`; nan without any.

    Blocks are what is drawn: the rule of scoring.intervals with (blocks - 1) degrees of freedom.
    """
    seeds, columns = values.shape[-2:]
    if no_interval(blocks, seeds) or columns == 1:
        value = values[..., 0].mean(axis=-1)
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    with np.errstate(invalid="ignore"):  # a constant layer is nan
        ends = bounds(components(values, blocks - 1))
    return Interval(ends.value, np.clip(ends.low, *limits), np.clip(ends.high, *limits))


def no_interval(blocks: int, seeds: int) -> str:
    """Why means of so many blocks and seeds have no interval; "" where they have."""
    if blocks < FEW_BLOCKS:
        return f"no interval: {blocks} batches, it takes {FEW_BLOCKS}"
    return "no interval: two seeds do not show how seeds differ" if seeds == 2 else ""


@dataclass(frozen=True)
class Difference:
    """The difference of two similarities at equal depth, layer by layer: bounds are (B,)."""

    what: str
    view: str
    group: str
    layers: tuple[str, ...]
    interval: Interval
    no_interval: str


@dataclass(frozen=True)
class SimilarityReport:
    """Result of the CKA analysis of one evaluation set."""

    pairs: tuple[Compared, ...]
    ceilings: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    batch: int
    seeds: int
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
    similarities: dict[str, dict[str, StreamingCKA]] = {}
    for number, (group, chosen) in enumerate(rows.items()):
        streams = {view: stream_of(reads.layers, options, number) for view in options.views}
        batches = chosen[: len(chosen) // batch * batch].reshape(-1, batch)
        for layers in reads.batches(batches, f"CKA, {group}", quiet):
            for view, stream in streams.items():
                stream.update(seen_through(views[view], layers))
        similarities[group] = streams
    return report(subjects, readers, similarities, options, batch)


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

    def batches(self, batches: Ints, what: str, quiet: bool) -> Iterator[list[Tensor]]:
        """(n, d_l) of every layer for each batch of rows (k, n)."""
        together = 1 if self.options.pool == "tokens" else max(1, WINDOW // batches.shape[1])
        windows = [batches[at : at + together] for at in range(0, len(batches), together)]
        for window in worked(windows, what, quiet=quiet):
            parts = [layer.tensor_split(len(window)) for layer in self(window.reshape(-1))]
            yield from map(list, zip(*parts, strict=True))

    def __call__(self, rows: Ints) -> list[Tensor]:
        """(n, d_l) of every layer of the first subject, then of the second …"""
        if self.options.pool != "tokens":
            pairs = zip(self.readers, self.encoded, strict=True)
            return [
                layer for reader, each in pairs for layer in reader.of_rows(each, rows, self.device)
            ]
        inputs = [inputs_of(encoded, rows, self.device) for encoded in self.encoded]
        read = [reader(each) for reader, each in zip(self.readers, inputs, strict=True)]
        check_same_tokens(inputs, read)
        chosen = self._some_tokens(len(read[0][0]))
        return [layer[chosen] for layers in read for layer in layers]

    def _some_tokens(self, tokens: int) -> Tensor:
        """Which tokens of a batch are compared, the same in all models."""
        chosen = np.sort(self._rng.permutation(tokens)[:TOKENS])
        return torch.from_numpy(chosen).to(self.device)


def check_same_tokens(
    batches: Sequence[Mapping[str, Tensor]], read: Sequence[Sequence[Tensor]]
) -> None:
    """Refuse models whose tokens do not correspond one to one."""
    masks = [inputs.get("attention_mask") for inputs in batches]
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
    similarities: Mapping[str, Mapping[str, StreamingCKA]],
    options: CKAOptions,
    batch: int,
) -> SimilarityReport:
    """All sums → values with their intervals."""
    ends = np.cumsum([0, *(len(reader.names) for reader in readers)])
    spans = [slice(start, end) for start, end in pairwise(ends.tolist())]
    seeds = sorted({subject.seed for subject in subjects})
    rng = np.random.default_rng(options.seed)
    tables, notes = [], []
    for group, streams in similarities.items():
        batches = next(iter(streams.values())).batches
        blocks = min(batches, BLOCKS)
        reason = no_interval(blocks, len(seeds))
        if reason:
            notes.append(f"{group}: {reason}")
        counts = resampled_blocks(blocks, 0 if reason else options.resamples, rng)
        for view, stream in streams.items():
            for members, by_seed in comparisons(subjects):
                a, b = members[0]
                similar = [stream.between(spans[one], spans[other]) for one, other in members]
                values = over_members([one.weighted(counts) for one in similar], by_seed)
                similarity = interval(values, blocks, (0, 1))
                depths = readers[a].depths, readers[b].depths
                diagonal = same_depth(*depths, readers[a].names)
                tables.append(
                    Compared(
                        group=group,
                        view=view,
                        first=subjects[a].role,
                        second=subjects[b].role,
                        first_layers=readers[a].names,
                        second_layers=readers[b].names,
                        first_depths=depths[0],
                        second_depths=depths[1],
                        **similarity._asdict(),
                        no_interval=reason,
                        seeds=np.stack([one.value for one in similar]),
                        null=np.mean([one.permuted for one in similar], axis=0),
                        at_equal_depth=values[diagonal, np.arange(len(diagonal))],
                        blocks=blocks,
                        rows=stream.rows,
                    )
                )
    if len(seeds) < 2:
        notes.append("no ceiling: it takes two seeds of one role")
    pairs = tuple(table for table in tables if table.first != table.second)
    ceilings = tuple(table for table in tables if table.first == table.second)
    differences = (*between_groups(pairs), *student_and_control(pairs, twins(subjects)))
    return SimilarityReport(pairs, ceilings, differences, batch, len(seeds), tuple(notes))


def comparisons(
    subjects: Sequence[LoadedModel],
) -> Iterator[tuple[list[tuple[int, int]], Floats]]:
    """Which subjects are compared, M pairs, and (S, M) what of each of them stands for a seed.

    Every two roles, seed by seed; then the seeds of every role with each other.
    """
    index = {(subject.role, subject.seed): i for i, subject in enumerate(subjects)}
    roles = list(dict.fromkeys(subject.role for subject in subjects))
    seeds = sorted({subject.seed for subject in subjects})
    for first, second in combinations(roles, 2):
        yield [(index[first, seed], index[second, seed]) for seed in seeds], np.eye(len(seeds))
    for role in roles:
        members = [(index[role, a], index[role, b]) for a, b in combinations(seeds, 2)]
        if members:
            yield members, pseudo_values(len(seeds))


def pseudo_values(seeds: int) -> Floats:
    """(S, P) weights: from a number of every two seeds to the jackknife's pseudo-value of each.

    J_i = S U - (S - 1) U_i, with U the mean over all P pairs and U_i that over the pairs without
    seed i. Their mean is U and their variance over seeds, / S, is that of U (Arvesen, Annals of
    Mathematical Statistics 40, 1969); pairs share seeds, so that their own variance is not. With
    two seeds there is one pair, which stands for both.
    """
    pairs = list(combinations(range(seeds), 2))
    if seeds == 2:
        return np.ones((2, 1))
    without = np.array([[seed not in pair for pair in pairs] for seed in range(seeds)])
    return 2 / (seeds - 1) - 2 / (seeds - 2) * without


def over_members(values: Sequence[Floats], by_seed: Floats) -> Floats:
    """(…, S, 1 + R) what stands for each seed, from (1 + R, …) of every member.

    Rows, or blocks of them, are drawn alike for all members: they saw the same rows.
    """
    of_seeds = np.tensordot(by_seed, np.stack(values), axes=1)
    return np.moveaxis(of_seeds, (0, 1), (-2, -1))


def between_groups(pairs: Sequence[Compared]) -> Iterator[Difference]:
    """Similarity on conflicting rows minus that on aligned rows. Rows differ, resamples do too."""
    table = {(p.group, p.view, p.first, p.second): p for p in pairs}
    for (group, view, first, second), p in table.items():
        other = table.get(("conflicting", view, first, second))
        if group == "aligned" and other is not None:
            what = f"{first} ~ {second}: conflicting - aligned"
            yield difference(what, "", other, p)


def student_and_control(pairs: Sequence[Compared], twin: Mapping[str, str]) -> Iterator[Difference]:
    """How much more like the teacher the student is than the control, on the same rows."""
    table = {(p.group, p.view, p.first, p.second): p for p in pairs}
    for (group, view, first, second), p in table.items():
        control = table.get((group, view, first, twin.get(second, "")))
        if first != "teacher" or control is None:
            continue
        if control.second_layers == p.second_layers:
            what = f"teacher ~ {second} - teacher ~ {twin[second]}"
            yield difference(what, group, p, control)


def difference(what: str, group: str, one: Compared, other: Compared) -> Difference:
    """`one` minus `other`, layer by layer of the second's; no interval where one side has none."""
    columns = min(one.at_equal_depth.shape[-1], other.at_equal_depth.shape[-1])
    values = one.at_equal_depth[..., :columns] - other.at_equal_depth[..., :columns]
    limits = interval(values, min(one.blocks, other.blocks), (-1, 1))
    reason = one.no_interval or other.no_interval
    return Difference(what, one.view, group, one.second_layers, limits, reason)


def p_value(value: float, null: Floats) -> float:
    """Share of permutations that reach `value` (Phipson and Smyth 2010); nan without any."""
    if not len(null) or math.isnan(value):
        return math.nan
    return float((1 + np.count_nonzero(null >= value)) / (1 + len(null)))
