"""Linear probes: at which depth the label and the spurious attribute can be read off a model.

A logistic regression on every layer's pooled features (Alain and Bengio 2016, arXiv:1610.01644),
cross-fitted: every row is judged by a probe that has not seen it. The rows are equally many of each
label with each attribute value. On rows as they come the two go together, and a probe for the one
would be right by reading the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import device as Device

from harness_plugin.analysis.loaded_models import LoadedModel
from harness_plugin.data.dataset import Split, TaskData
from harness_plugin.machine.progress import worked
from harness_plugin.records import Estimate, Floats, Ints
from harness_plugin.scoring.statistics import resampling
from harness_plugin.scoring.statistics.intervals import TAIL, Support, estimate
from harness_plugin.training.inputs.encode import Encoded
from harness_plugin_hooks.analyses.probes.options import ProbeOptions
from harness_plugin_hooks.analyses.reading import Reader

Bools: TypeAlias = NDArray[np.bool_]
Target: TypeAlias = Literal["label", "attribute"]
TARGETS: tuple[Target, ...] = ("label", "attribute")


@dataclass(frozen=True)
class Crossed:
    """Equally many rows of each label with each attribute value, in random order.

    `rows` (N,) index the set's rows; `label`, `attribute` (N,) index their `names`; `fold` (N,)
    says in which fold a row is judged, every combination spread evenly over the folds.
    """

    split: Split
    rows: Ints
    label: Ints
    attribute: Ints
    fold: Ints
    names: Mapping[Target, tuple[str, ...]]
    left_out: tuple[str, ...]

    def of(self, target: Target) -> Ints:
        """(N,) the codes of a target."""
        return self.label if target == "label" else self.attribute

    @property
    def cell(self) -> Ints:
        """(N,) a code for each combination."""
        return self.label * len(self.names["attribute"]) + self.attribute

    def chance(self, target: Target) -> float:
        """The accuracy of guessing, in [0, 1]."""
        return 1 / len(self.names[target])


def crossed(split: Split, options: ProbeOptions) -> Crossed | str:
    """The rows of `split` that probes are fitted on, or why there are none.

    Attribute values that do not occur `folds` times with every label are left out.
    """
    attribute = np.asarray(split.column("attribute"), dtype=np.str_)
    if not any(attribute):
        return f"set {split.name!r} does not say the attribute of its rows"
    values, codes = np.unique(attribute, return_inverse=True)
    labels = [c for c in range(len(split.labels)) if (split.label == c).any()]
    counts = np.array(
        [[((split.label == c) & (codes == v)).sum() for c in labels] for v in range(len(values))]
    )
    kept = [v for v in range(len(values)) if values[v] and counts[v].min() >= options.folds]
    if len(kept) < 2 or len(labels) < 2:
        return (
            f"set {split.name!r} has no two attribute values that occur with every label, each at "
            f"least {options.folds} times: label and attribute cannot be told apart"
        )
    size = min(int(counts[kept].min()), max(options.folds, options.rows // counts[kept].size))
    rng = np.random.default_rng(options.seed)
    parts = [
        (rng.permutation(np.flatnonzero((split.label == c) & (codes == v)))[:size], i, j)
        for i, c in enumerate(labels)
        for j, v in enumerate(kept)
    ]
    order = rng.permutation(size * len(parts))
    return Crossed(
        split=split,
        rows=np.concatenate([rows for rows, _, _ in parts])[order],
        label=np.repeat([i for _, i, _ in parts], size)[order],
        attribute=np.repeat([j for _, _, j in parts], size)[order],
        fold=np.tile(np.arange(size) % options.folds, len(parts))[order],
        names={
            "label": tuple(split.labels[c] for c in labels),
            "attribute": tuple(str(values[v]) for v in kept),
        },
        left_out=tuple(str(values[v]) for v in range(len(values)) if values[v] and v not in kept),
    )


def crossed_rows(data: TaskData, options: ProbeOptions) -> tuple[Crossed | None, list[str]]:
    """The rows of the chosen set, or of the set that has most, and why others have none."""
    sets = [s for s in data.evaluation if options.split in (None, s.name)]
    crossings = [crossed(split, options) for split in sets]
    usable = [rows for rows in crossings if isinstance(rows, Crossed)]
    if not usable:
        return None, [reason for reason in crossings if isinstance(reason, str)]
    best = max(usable, key=lambda rows: len(rows.rows))
    if not best.left_out:
        return best, []
    left_out = ", ".join(best.left_out)
    return best, [f"left out, because they do not occur with every label: {left_out}"]


@dataclass(frozen=True)
class Curve:
    """How well one target is read off every layer of one role.

    `correct` (S, L, N): of every seed and layer, whether the probe of the other folds is right.
    `values` (S, L, 1 + R): the accuracy in [0, 1] of each seed, then its resamples over rows, the
    same rows for all roles. `null_values` the same of probes of shuffled targets, the mean over
    permutations; None without any.
    """

    role: str
    seeds: tuple[int, ...]
    target: Target
    layers: tuple[str, ...]
    depths: tuple[float, ...]
    chance: float
    correct: Bools
    values: Floats
    null_values: Floats | None

    @cached_property
    def support(self) -> Support:
        """The rows that an accuracy stands on."""
        n = self.correct.shape[-1]
        return Support(n, n)

    @cached_property
    def estimates(self) -> tuple[Estimate, ...]:
        """Of every layer."""
        return self._estimated(self.values)

    @cached_property
    def null(self) -> tuple[Estimate, ...]:
        """Accuracy of probes of shuffled targets on every layer; empty without permutations."""
        return () if self.null_values is None else self._estimated(self.null_values)

    def _estimated(self, values: Floats) -> tuple[Estimate, ...]:
        return tuple(estimate(values[:, k], self.support, (0, 1)) for k in range(len(self.layers)))

    def minus(self, other: Curve, layer: int) -> Estimate:
        """The difference to another on one layer, counted from the front or, -1, the last."""
        values = self.values[:, layer] - other.values[:, layer]
        return estimate(values, self.support, (-1, 1), difference=True)

    @property
    def decodable(self) -> tuple[bool, ...]:
        """Where the whole interval lies above chance and above that of shuffled targets."""
        bars = [self.chance] * len(self.layers)
        for layer, null in enumerate(self.null):
            bars[layer] = max(self.chance, null.value if np.isnan(null.high) else null.high)
        lows = [self._low(e) for e in self.estimates]
        return tuple(low > bar for low, bar in zip(lows, bars, strict=True))

    def _low(self, accuracy: Estimate) -> float:
        """The lower bound; the exact one (Clopper and Pearson 1934) where every row is right."""
        return float(TAIL ** (1 / accuracy.n)) if accuracy.value == 1 else accuracy.low


@dataclass(frozen=True)
class Probed:
    """All curves, and the rows they are of."""

    rows: Crossed
    curves: tuple[Curve, ...]

    def curve(self, role: str, target: Target) -> Curve:
        """That of one role and target."""
        return next(c for c in self.curves if (c.role, c.target) == (role, target))


@dataclass(frozen=True)
class Probes:
    """Fits the probes of every layer of a model on the same rows and folds."""

    rows: Crossed
    options: ProbeOptions
    shuffles: Mapping[Target, Sequence[Ints]] = field(default_factory=dict)

    def of(self, features: Sequence[Floats], target: Target) -> tuple[Bools, Bools]:
        """(L, N) right or not; and (permutations, L, N) for shuffled targets."""
        gold = self.rows.of(target)
        with threadpool_limits(1):  # thousands of small fits, in which threads only wait
            correct = np.stack([self.judged(layer, gold) for layer in features])
            shuffled = [
                np.stack([self.judged(layer, gold[order]) for layer in features])
                for order in self.shuffles[target]
            ]
        return correct, np.array(shuffled, bool).reshape(-1, *correct.shape)

    def judged(self, features: Floats, gold: Ints) -> Bools:
        """(N,) whether each row's class is found by the probe that was fitted on other folds."""
        correct = np.zeros(len(gold), bool)
        for fold in range(self.options.folds):
            held = self.rows.fold == fold
            scale = StandardScaler().fit(features[~held])
            probe = LogisticRegression(C=self.options.strength, max_iter=1000)
            probe.fit(scale.transform(features[~held]), gold[~held])
            correct[held] = probe.predict(scale.transform(features[held])) == gold[held]
        return correct


def features_of(
    subject: LoadedModel, encoded: Encoded, rows: Ints, device: Device
) -> tuple[Reader, list[Floats]]:
    """Every layer's pooled features (N, d_l), float64, in the order of `rows`."""
    reader = Reader(subject.model)
    layers = reader.of_rows(encoded, rows, device)
    return reader, [layer.cpu().double().numpy() for layer in layers]


def probe(
    subjects: Sequence[LoadedModel],
    encoded: Sequence[Encoded],
    rows: Crossed,
    options: ProbeOptions,
    *,
    device: Device,
    quiet: bool = True,
) -> Probed:
    """Both targets, every layer of every role, over all seeds."""
    rng = np.random.default_rng(options.seed)
    shuffles: dict[Target, list[Ints]] = {
        target: [rng.permutation(len(rows.rows)) for _ in range(options.permutations)]
        for target in TARGETS
    }
    probes = Probes(rows, options, shuffles)
    answers: dict[str, dict[Target, list[tuple[Bools, Bools]]]] = {}
    seeds: dict[str, list[int]] = {}
    readers: dict[str, Reader] = {}
    pairs = list(zip(subjects, encoded, strict=True))
    for subject, read in worked(pairs, "linear probes", unit="model", quiet=quiet):
        readers[subject.role], features = features_of(subject, read, rows.rows, device)
        seeds.setdefault(subject.role, []).append(subject.seed)
        for target in TARGETS:
            results = answers.setdefault(subject.role, {t: [] for t in TARGETS})
            results[target].append(probes.of(features, target))
    counts = resampled_rows(rows.cell, options, rng)
    return Probed(
        rows,
        tuple(
            curve_of(role, tuple(seeds[role]), target, readers[role], results[target], rows, counts)
            for role, results in answers.items()
            for target in TARGETS
        ),
    )


def resampled_rows(cells: Ints, options: ProbeOptions, rng: np.random.Generator) -> Floats:
    """(1 + R, N) how often each row is drawn: once, then with replacement within its cell."""
    drawn = resampling.group_stratified_counts(cells, options.resamples, rng)
    return np.concatenate([np.ones((1, len(cells))), *drawn])


def curve_of(
    role: str,
    seeds: tuple[int, ...],
    target: Target,
    reader: Reader,
    results: Sequence[tuple[Bools, Bools]],
    rows: Crossed,
    counts: Floats,
) -> Curve:
    """One curve from what the probes of every seed got right."""
    correct = np.stack([right for right, _ in results])
    shuffled = np.stack([of_shuffled for _, of_shuffled in results])  # (S, permutations, L, N)
    null = shuffled.mean(axis=1) @ counts.T if shuffled.shape[1] else None
    return Curve(
        role=role,
        seeds=seeds,
        target=target,
        layers=reader.names,
        depths=reader.depths,
        chance=rows.chance(target),
        correct=correct,
        values=correct @ counts.T / len(rows.rows),
        null_values=None if null is None else null / len(rows.rows),
    )
