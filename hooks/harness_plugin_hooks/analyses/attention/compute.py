"""Attention between the models of a run: by group, with intervals over seeds and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness_plugin.analysis.inputs import AnalysisInput
from harness_plugin.pipeline.roles.context import is_quiet
from harness_plugin.pipeline.roles.split_stages import processor_of
from harness_plugin.records import Estimate, Floats, Ints
from harness_plugin.scoring.statistics import resampling
from harness_plugin.scoring.statistics.intervals import Support, estimate
from harness_plugin.training.inputs.encode import processor_key
from harness_plugin_hooks.analyses.attention.heads import (
    SPECIALS,
    Measured,
    Pair,
    Side,
    measure,
    unread,
)
from harness_plugin_hooks.analyses.attention.measures import LARGEST
from harness_plugin_hooks.analyses.attention.options import AttentionOptions
from harness_plugin_hooks.analyses.attention.places import grid_of, places_of, regions
from harness_plugin_hooks.analyses.cka.compute import comparisons, over_members


@dataclass(frozen=True)
class Own:
    """Attention of one role on one group of rows, by measure.

    `heads` (S, L, H) of each seed; `layers` the mean over seeds and heads of each of L layers and
    `rolled` that by rollout; `rows` how many show it; `uniform` what attention without any
    preference would give.
    """

    group: str
    specials: bool
    sides: tuple[Side, ...]
    heads: dict[str, Floats]
    layers: dict[str, list[Estimate]]
    rolled: dict[str, Estimate]
    uniform: dict[str, float]
    rows: dict[str, int]

    @property
    def role(self) -> str:
        """Whose."""
        return self.sides[0].subject.role


@dataclass(frozen=True)
class Diverged:
    """Divergence of two roles (or of two seeds of one) on one group of rows.

    `replicates` (B, S, 1 + R): for every layer of the second the value of each seed, then its
    resamples over `rows` rows. `pairs` are its members, one a seed, or every two seeds.
    """

    group: str
    specials: bool
    first: Side
    second: Side
    pairs: tuple[Pair, ...]
    replicates: Floats
    rows: int

    @cached_property
    def estimates(self) -> list[Estimate]:
        """Of every layer of the second, in nats."""
        support = Support(self.rows, self.rows)
        return [estimate(v, support, (0, LARGEST), difference=True) for v in self.replicates]

    def minus(self, other: Diverged) -> list[Estimate]:
        """The difference to another, layer by layer, in nats."""
        fewer = min(self.rows, other.rows)
        values = self.replicates - other.replicates
        limits = -LARGEST, LARGEST
        return [estimate(v, Support(fewer, fewer), limits, difference=True) for v in values]

    @property
    def roles(self) -> tuple[str, str]:
        """Of the first and of the second."""
        return self.first.subject.role, self.second.subject.role


@dataclass(frozen=True)
class AttentionReport:
    """Result of the attention analysis of one evaluation set."""

    owns: tuple[Own, ...]
    pairs: tuple[Diverged, ...]
    ceilings: tuple[Diverged, ...]
    notes: tuple[str, ...]


def compare_attention(sample: AnalysisInput, options: AttentionOptions) -> AttentionReport:
    """Attention of all models that have any, on each group of rows."""
    notes = dict.fromkeys(
        f"{subject.role}: {reason}"
        for subject in sample.models
        if (reason := unread(subject.model))
    )
    owns: list[Own] = []
    compared: list[Diverged] = []
    for number, (group, chosen) in enumerate(sample.rows.items()):
        sides = sides_of(sample, chosen, notes)
        if not sides:
            break
        rng = np.random.default_rng([options.seed, number])
        models = [side.subject for side in sides]
        planned = [
            (members, by_seed)
            for members, by_seed in comparisons(models)
            if comparable(sides, members[0], notes)
        ]
        measures, pairs = measure(
            sides,
            [pair for members, _ in planned for pair in members],
            chosen,
            matched_rows=options.matched,
            device=sample.device,
            quiet=is_quiet(sample.task.ctx),
            title=f"attention, {group}",
        )
        counts = row_counts(len(chosen), options.resamples, rng)
        owns += own_values(group, sides, measures, counts)
        compared += diverged(group, sides, planned, pairs, counts)
    ceilings = tuple(one for one in compared if one.roles[0] == one.roles[1])
    if compared and not ceilings:
        notes["no ceiling: it takes two seeds of one role"] = None
    across = tuple(one for one in compared if one.roles[0] != one.roles[1])
    return AttentionReport(tuple(owns), across, ceilings, tuple(notes))


def sides_of(sample: AnalysisInput, chosen: Ints, notes: dict[str, None]) -> list[Side]:
    """The models that have attention, with what stands where in the chosen rows."""
    task = sample.task
    read = [
        (subject, encoded)
        for subject, encoded in zip(sample.models, sample.encoded, strict=True)
        if not unread(subject.model)
    ]
    images = task.ctx.task.modality == "image"
    region = regions(task, sample.split, chosen) if images and read else None
    if images and read and region is None:
        notes["no region: the task does not say where its attribute is (attribute_region)"] = None
    known: dict[str, Any] = {}
    out = []
    for subject, encoded in read:
        if images:
            cut = f"patches {grid_of(subject.model.config)}"
        else:
            tokenizer = processor_key(processor_of(task.ctx, str(subject.path))[0])
            cut = f"{tokenizer} {subject.max_length}"
        if cut not in known:
            known[cut] = places_of(task, subject, sample.split, chosen, region)
        out.append(Side(subject, encoded, known[cut], cut))
    return out


def comparable(sides: Sequence[Side], pair: tuple[int, int], notes: dict[str, None]) -> bool:
    """Whether two models' maps have a common unit; a note where they have none."""
    a, b = (sides[i] for i in pair)
    if a.cut == b.cut or not a.cut.startswith("patches"):
        return True
    roles = f"{a.subject.role} ~ {b.subject.role}"
    notes[f"{roles}: not compared, their patches differ ({a.cut}, {b.cut})"] = None
    return False


def row_counts(rows: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(1 + R, N) how often each row counts: once, then drawn with replacement."""
    drawn = resampling.group_stratified_counts(np.zeros(rows, np.int64), resamples, rng)
    return np.vstack([np.ones((1, rows)), *drawn])


def resampled(values: Floats, counts: Floats) -> Floats:
    """(1 + R, …) means of the rows of `values` (N, …) that have one, as often as they count.

    nan where no row that was drawn has a value.
    """
    flat = values.reshape(len(values), -1)
    there = ~np.isnan(flat)
    total, size = counts @ np.where(there, flat, 0), counts @ there
    mean = np.divide(total, size, out=np.full(total.shape, np.nan), where=size > 0)
    out: Floats = mean.reshape(len(counts), *values.shape[1:])
    return out


def own_values(
    group: str, sides: Sequence[Side], measured: Sequence[Measured], counts: Floats
) -> Iterator[Own]:
    """Every role, with special tokens and without."""
    for role in dict.fromkeys(side.subject.role for side in sides):
        members = [i for i, side in enumerate(sides) if side.subject.role == role]
        these = [measured[i] for i in members]
        for specials in SPECIALS:
            measures = names(these[0].heads, specials)
            rolled = {
                name: [own.rolled[specials, name][:, None] for own in these]
                for name in names(these[0].rolled, specials)
            }
            uniform = these[0].uniform
            yield Own(
                group,
                specials,
                tuple(sides[i] for i in members),
                {n: np.stack([own.heads[specials, n].mean for own in these]) for n in measures},
                {n: shares([own.layers[specials, n] for own in these], counts) for n in measures},
                {n: shares(each, counts)[0] for n, each in rolled.items()},
                {
                    n: float(resampled(uniform[specials, n], counts[:1])[0])
                    for n in names(uniform, specials)
                },
                {n: these[0].heads[specials, n].rows for n in measures},
            )


def shares(values: Sequence[Floats], counts: Floats) -> list[Estimate]:
    """The K means over seeds and rows, in [0, 1], of every seed's (N, K)."""
    replicates = over_members([resampled(one, counts) for one in values], np.eye(len(values)))
    rows = showing(values[0])
    return [estimate(v, Support(rows, rows), (0, 1)) for v in replicates]


def showing(values: Floats) -> int:
    """How many of the rows of `values` (N, …) have one."""
    return int((~np.isnan(values)).reshape(len(values), -1).any(axis=1).sum())


def names(table: Mapping[tuple[bool, str], object], specials: bool) -> list[str]:
    """Names of the measures in a table."""
    return [name for with_specials, name in table if with_specials == specials]


def diverged(
    group: str,
    sides: Sequence[Side],
    planned: Sequence[tuple[list[tuple[int, int]], Floats]],
    pairs: Sequence[Pair],
    counts: Floats,
) -> Iterator[Diverged]:
    """Every comparison's divergence with its resamples."""
    table = {(pair.first, pair.second): pair for pair in pairs}
    for members, by_seed in planned:
        these = tuple(table[member] for member in members)
        a, b = (sides[i] for i in members[0])
        for specials in SPECIALS:
            values = [pair.layers[specials] for pair in these]
            replicates = over_members([resampled(one, counts) for one in values], by_seed)
            yield Diverged(group, specials, a, b, these, replicates, showing(values[0]))
