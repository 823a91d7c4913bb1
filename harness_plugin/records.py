"""The frozen records that travel between rooms and are handed to hooks. NumPy only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd

    from harness_plugin.data.split import Split
    from harness_plugin.data.task import HubSet

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.floating[Any]]

COLLAPSE_RULES = ("argmax", "sum", "restrict")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model of one seed answers on one evaluation set.

    Arrays are row-aligned and keyed by `ids` (N,). `logits` (N, C_model) float32 follow
    `model_labels`; `label` (N,) follows `labels`, the set's own label names. `group` (N,) is -1
    for a row of no group; `aligned` (N,) is 1 / 0 / -1 (bias-aligned, -conflicting, undefined);
    `breakdowns` holds one (N,) string array a bias-type column, "" = not applicable. `cluster` (N,)
    follows `clusters`, -1 for a row that stands alone: rows of one cluster are not independent.
    It is None where all rows are.
    """

    task: str
    split: str
    role: str
    model: str
    seed: int
    ids: NDArray[np.str_]
    logits: NDArray[np.float32]
    model_labels: tuple[str, ...]
    label: Ints
    labels: tuple[str, ...]
    group: Ints
    groups: tuple[str, ...]
    aligned: Ints
    breakdowns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    collapse: Mapping[str, str] | None = None
    collapse_rule: str = "argmax"
    train_groups: Mapping[str, int] | None = None
    """Rows of the training set by group name; None until scoring, which fills it in."""
    members: NDArray[np.bool_] | None = None
    """(N, G) where groups overlap (`group` is then -1 in all rows); None where they do not."""
    cluster: Ints | None = None
    clusters: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Groups with too few rows to steer a minimum over groups; empty until scoring."""
    labels_only: bool = False
    """Whether only labels are known: the logits then say which one, and no confidence."""
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    """Input texts by column, memory-mapped; empty for images."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def membership(self) -> NDArray[np.bool_]:
        """(N, G) whether a row belongs to a group."""
        if self.members is not None:
            return self.members
        return np.equal(self.group[:, None], np.arange(len(self.groups)))

    @property
    def pattern(self) -> Ints:
        """(N,) a code for the groups a row belongs to."""
        if self.members is None:
            return self.group
        codes: Ints = np.unique(self.members, axis=0, return_inverse=True)[1].reshape(-1)
        return codes

    @cached_property
    def units(self) -> Ints | None:
        """(N,) 0 .. U-1, the independent unit of each row: its cluster, or the row itself.

        Units are numbered by the order in which they first occur among the clusters, then the rows
        that stand alone. None where every row is a unit.
        """
        if self.cluster is None:
            return None
        alone = self.cluster < 0
        present, unit = np.unique(self.cluster, return_inverse=True)
        unit = unit.reshape(-1).astype(np.int64) - int(bool(alone.any()))
        unit[alone] = len(present) - int(bool(alone.any())) + np.arange(int(alone.sum()))
        return unit

    @cached_property
    def model_probabilities(self) -> Floats:
        """(N, C_model) softmax of the logits in float64, 0 for a label that is left out."""
        z = self.logits.astype(np.float64)
        z[:, self.targets < 0] = -np.inf
        z = np.exp(z - z.max(axis=1, keepdims=True))
        probabilities: Floats = z / z.sum(axis=1, keepdims=True)
        return probabilities

    @cached_property
    def targets(self) -> Ints:
        """(C_model,) index into `labels` of every model label, after the collapse.

        -1 where rule "restrict" leaves a model's label out, because the set lacks it. Raises
        HarnessError where a label of the set is none of the model's under that rule, and where a
        model's label becomes none of the set's under the others.
        """
        index = {label_spelling(name): i for i, name in enumerate(self.labels)}
        collapse = (self.collapse or {}).items()
        mapping = {label_spelling(name): label_spelling(label) for name, label in collapse}
        names = [label_spelling(name) for name in self.model_labels]
        if self.collapse_rule == "restrict":
            if lacking := sorted(set(index) - set(names)):
                raise HarnessError(
                    f"set {self.split!r} of task {self.task!r} restricts a model to its labels "
                    f"(collapse rule 'restrict'), and {self.role} predicts no label "
                    f"{', '.join(lacking)}: collapse by 'argmax' or 'sum'."
                )
            return np.array([index.get(name, -1) for name in names], dtype=np.int64)
        # a model trained on the collapsed labels needs no collapse
        names = names if set(names) <= set(index) else [mapping.get(n, n) for n in names]
        if unknown := sorted(set(names) - set(index)):
            raise HarnessError(
                f"{self.role} predicts label {', '.join(unknown)}, but set {self.split!r} of task "
                f"{self.task!r} has {', '.join(self.labels)}."
            )
        return np.array([index[name] for name in names], dtype=np.int64)

    @cached_property
    def probabilities(self) -> Floats:
        """(N, C) probability of every label of the set: summed over the labels that collapse."""
        out = np.zeros((len(self), len(self.labels)))
        for column, target in enumerate(self.targets):
            out[:, target] += self.model_probabilities[:, column]
        return out

    @cached_property
    def predicted(self) -> Ints:
        """(N,) predicted label of the set.

        Rule "argmax": the model's most probable label, then collapsed (McCoy et al. 2019).
        Rule "sum": the most probable label after summing the collapsed probabilities
        (Clark et al. 2019). They differ: (.3, .4, .3) is entailment by the first only.
        Rule "restrict": the most probable of the model's labels that the set has.
        """
        if self.collapse_rule not in COLLAPSE_RULES:
            known = ", ".join(COLLAPSE_RULES)
            raise HarnessError(f"collapse rule {self.collapse_rule!r} is not one of {known}.")
        first = self.collapse_rule == "argmax"
        best: Ints = (self.logits if first else self.probabilities).argmax(axis=1)
        return self.targets[best] if first else best

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the predicted label is the gold one."""
        return np.equal(self.predicted, self.label)


def label_spelling(name: str) -> str:
    """A label's name as names are compared: case and the signs between words do not count.

    `not_entailment`, `not-entailment`, `Non_Entailment` and `non-entailment` are one label: that is
    how GLUE, RTE and HANS write it.
    """
    words = re.sub(r"[\s_-]+", "-", name.strip().lower())
    return f"non-{words[4:]}" if words.startswith("not-") else words


def predictions_of(
    split: Split,
    logits: NDArray[np.float32],
    *,
    task: str,
    role: str,
    model: str,
    seed: int,
    model_labels: tuple[str, ...],
    texts: Sequence[str] = (),
) -> Predictions:
    """The record of one model's logits on one split; `texts` are its text columns."""
    cluster, clusters = split.clusters or (None, ())
    return Predictions(
        task=task,
        split=split.name,
        role=role,
        model=model,
        seed=seed,
        ids=split.ids,
        logits=logits,
        model_labels=model_labels,
        label=split.label,
        labels=split.labels,
        group=split.group,
        groups=split.groups,
        members=split.membership if split.overlapping else None,
        aligned=split.aligned,
        breakdowns=split.breakdown_values,
        cluster=cluster,
        clusters=clusters,
        collapse=split.collapse,
        collapse_rule=split.collapse_rule,
        texts={column: split.rows[column] for column in texts},
    )


@dataclass(frozen=True)
class VarianceComponents:
    """A mean over seeds and the variances its interval is made of (scoring.intervals).

    All are scalars, or arrays of any one shape. `rows`: of the mean, over rows, given these seeds;
    `own`: the part of it that seeds do not share; `seeds`: of the mean, as the seeds show it (s2 /
    S, nan for one seed). `df`: degrees of freedom of the rows' part.
    """

    value: Floats
    rows: Floats
    own: Floats
    seeds: Floats
    n_seeds: int
    df: float


IntervalOf: TypeAlias = Literal["", "rows", "seeds and rows"]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty; what is undefined is nan, and `reason` says why.

    `value`: the mean over seeds. `low`, `high`: 95% interval over rows and seeds by the rule of
    docs/verdicts.md, or nan with the `reason`. `seeds`: the value of each seed; `sd` their standard
    deviation (ddof 1, nan for one seed). `n`: rows of the evaluation set (or group, or subset).
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    sd: float = float("nan")
    seeds: tuple[float, ...] = ()
    n: int = 0
    reason: str = ""
    errors: tuple[float, ...] = ()
    """The bootstrap standard error of each seed's value."""
    intervals: tuple[tuple[float, float], ...] = ()
    """95% interval of each seed's value, over rows alone; nan where it is undefined."""
    interval_of: IntervalOf = ""
    """"rows" for one seed: it says nothing of other seeds; "" without an interval."""
    plain: tuple[float, ...] = ()
    """Of a minimum over groups: each seed's number without the correction, as papers print it."""
    design_effect: float | None = None
    """Of an accuracy of clustered rows: its variance over that of as many independent rows."""
    components: VarianceComponents | None = field(default=None, repr=False, compare=False)
    """What the interval is made of; None without one, and in what was read back from a file."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict on one student and evaluation set is made of (scoring.verdict).

    `*_gap`: signed primary gaps; `change` and `total` are student minus and plus teacher, and
    `reference_*` the same of the teacher and its ERM reference. `drop`: worst-group accuracy of the
    teacher minus the student's; `reference_drop`: the teacher's minus the reference's. None where
    there is no such number.
    """

    student: str
    split: str
    gap: str
    student_gap: VarianceComponents
    teacher_gap: VarianceComponents
    change: VarianceComponents
    total: VarianceComponents
    drop: VarianceComponents | None = None
    reference_gap: VarianceComponents | None = None
    reference_change: VarianceComponents | None = None
    reference_total: VarianceComponents | None = None
    reference_drop: VarianceComponents | None = None
    reason: str = ""
    """Why no verdict can be given, whatever the seeds."""
    distinct_seeds: int = 0
    """Seeds of the student whose answers differ: equal ones are one training."""
    noisiest: str = ""
    """The group whose rows add most to the rows' variance of `change`."""
    noisiest_rows: int = 0
    one_class: Mapping[str, str] = field(default_factory=dict)
    """Role -> what is said of a model that answers (nearly) one label only."""


@dataclass(frozen=True)
class VerdictRule:
    """What a verdict depends on besides the evidence.

    `margin`: how much worse is not called lost, a fraction. `min_seeds`: fewer give no verdict.
    `min_group`: rows below which a group steers no minimum over groups.
    """

    margin: float = 0.02
    min_seeds: int = 3
    min_group: int = 30


DEFAULT_RULE = VerdictRule()


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is, without the function that computes it.

    `kind`: a "gap" is a signed difference (0 = treats both sides alike), "performance" and
    "calibration" stand alone. `bounds`: the lowest and highest value there can be.
    """

    name: str
    kind: Literal["performance", "gap", "calibration"]
    bounds: tuple[float, float]
    higher_is_better: bool
    summary: str


@dataclass(frozen=True)
class TrainedModel:
    """One model of one role and seed: what it is, where it lies, what it took."""

    task: str
    role: str
    seed: int
    name: str
    path: Path
    model: str
    """Preset or checkpoint that it started from."""
    method: str
    """What trained it; "as saved" and "predictions" for models that came from elsewhere."""
    settings: Mapping[str, Any]
    """What else its record shows of how it was trained, as JSON; nothing is computed from it."""
    supervision: Mapping[str, Any] | None = None
    """Which labels besides the task's own it was trained and chosen with."""
    selection: Mapping[str, Any] | None = None
    """Which update was kept, and by what; None for the last."""
    key: str = ""
    """Key of the stage that made it, or the hash of a checkpoint's weights."""
    kind: str = ""
    """What the role is, a value of `RoleKind`; "" where only its name is known."""
    start: str = ""
    """The teacher's layers that its first weights were; "" for a start of its own."""
    labels: tuple[str, ...] = ()
    """In the order of its logits."""
    max_length: int = 0
    """Tokens that texts are cut to; 0 where none are read."""
    updates: int = 0
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class ModelScores:
    """The scores of one role on one evaluation set over all seeds, keyed by metric name."""

    role: str
    split: str
    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Estimate]
    """Accuracy by group name."""
    breakdowns: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    """breakdown -> value ("lexical_overlap") -> metric -> estimate."""
    distinct_seeds: int
    """Different models behind the numbers: those that answer every set alike are one training."""

    def by_subset(self) -> dict[str, Mapping[str, Estimate]]:
        """Metric -> estimate on all rows (""), on "group=NAME" and on "BREAKDOWN=VALUE"."""
        return {
            "": self.metrics,
            **{f"group={name}": {"acc": estimate} for name, estimate in self.groups.items()},
            **{
                f"{breakdown}={value}": metrics
                for breakdown, values in self.breakdowns.items()
                for value, metrics in values.items()
            },
        }


@dataclass(frozen=True)
class Transfer:
    """One measure of one student on one evaluation set: student against teacher or control.

    `measure` is distillability, contribution, gap_widening, gap_size_change or retention; `subset`
    is "" for the whole set, "group=NAME" or "BREAKDOWN=VALUE".
    """

    student: str
    split: str
    subset: str
    metric: str
    measure: str
    estimate: Estimate


@dataclass(frozen=True)
class SetPlan:
    """What a number of seeds on one evaluation set can show; fractions.

    `smallest_loss`: the smallest true widening of the gap that would be called lost with
    probability `power`, with the planned seeds; `ever` with 20 seeds. `seeds_for_effect`,
    `seeds_for_kept`: seeds at which a loss of `effect`, or no change at all, gets its verdict; None
    where not even 20 do, then `rows_for_kept` says how many times the rows would, with 20.
    """

    split: str
    gap: str
    smallest_cell: int
    cell: str
    clusters: int | None
    smallest_loss: float
    ever: float
    seeds_for_effect: int | None
    seeds_for_kept: int | None
    rows_for_kept: float | None
    reason: str = ""
    short: str = ""
    """What the planned seeds can show, in a few words."""


@dataclass(frozen=True)
class Flips:
    """Answers of a student that differ from another role's, on a set or a part of it.

    All are shares of the `n` rows, means over seeds. `changed` is the sum of `lost` (right to
    wrong), `repaired` (wrong to right) and `other_wrong` (wrong to another wrong label). `modal`:
    rows whose most frequent answer over seeds differs. `expected`: rows on which two seeds of one
    role differ, mean over both roles, None for one seed. `p`: exact McNemar test of lost against
    repaired, smallest over seeds, adjusted by Holm. `subset`: "", "group=NAME", "BREAKDOWN=VALUE",
    or "margin=0-10%", the tenth of the rows that the other role is least sure of.
    """

    student: str
    split: str
    other: str
    subset: str
    n: int
    changed: float
    lost: float
    repaired: float
    other_wrong: float
    modal: float
    expected: float | None
    p: float


@dataclass(frozen=True)
class TaskScores:
    """Everything scored for one task."""

    task: str
    source: str
    fingerprint: str
    collapse_rule: str
    notes: tuple[str, ...]
    seeds: tuple[int, ...]
    models: tuple[TrainedModel, ...]
    scores: tuple[ModelScores, ...]
    transfer: tuple[Transfer, ...]
    predictions: tuple[Predictions, ...] = ()
    """All predictions the numbers come from, in the order (role, seed, split)."""
    primary: Mapping[str, str] = field(default_factory=dict)
    """Evaluation set -> the gap that its story is told with."""
    purposes: Mapping[str, str] = field(default_factory=dict)
    """Evaluation set -> "in_domain" or "ood", in-domain sets first."""
    metrics: Mapping[str, MetricInfo] = field(default_factory=dict, repr=False)
    """What each metric is, by name."""
    hub_sets: Mapping[str, HubSet] = field(default_factory=dict)
    """Evaluation set -> the hub split that it is, row for row; empty for data from elsewhere."""
    evidence: tuple[Evidence, ...] = ()
    """What the verdict on each student and set with a gap rests on."""
    flips: tuple[Flips, ...] = ()
    """Answers that change from teacher and from control to each student."""
    rule: VerdictRule = DEFAULT_RULE
    """What verdicts are given by unless said otherwise."""

    def of(self, role: str, split: str) -> ModelScores:
        """The scores of `role` on `split`."""
        return next(s for s in self.scores if s.role == role and s.split == split)

    @cached_property
    def higher_is_better(self) -> dict[str, bool]:
        """By metric name, as the metrics declare it."""
        return {name: metric.higher_is_better for name, metric in self.metrics.items()}

    def transfer_of(
        self, student: str, split: str, metric: str, measure: str, subset: str = ""
    ) -> Estimate | None:
        """One measure of one student; None where it was not measured, as for other roles.

        `measure`: distillability, contribution, gap_widening, gap_size_change or retention.
        `subset`: "" for the whole set, "group=NAME" or "BREAKDOWN=VALUE".
        """
        return self._measures.get((student, split, subset, metric, measure))

    @cached_property
    def _measures(self) -> dict[tuple[str, str, str, str, str], Estimate]:
        return {
            (t.student, t.split, t.subset, t.metric, t.measure): t.estimate for t in self.transfer
        }

    def rows(self, *, by_seed: bool = False) -> Iterator[dict[str, Any]]:
        """Every number as a flat row: scores first, then what is measured between models.

        Keys: task, source, split, purpose, subset, role, metric, measure ("score", or one of
        the transfer measures), seed (None: over all seeds), value, low, high (95% interval), sd,
        seeds (how many), n (rows of the set), higher_is_better, reason (why a value is nan).
        With `by_seed` the number over all seeds is followed by that of each seed, its interval
        over examples alone; a ratio of means over seeds (retention) has none.
        """
        for found in self.scores:
            for subset, metrics in found.by_subset().items():
                for metric, estimate in metrics.items():
                    of = (found.split, subset, found.role, metric, "score")
                    yield from self._rows_of(*of, estimate, by_seed)
        for t in self.transfer:
            of = (t.split, t.subset, t.student, t.metric, t.measure)
            yield from self._rows_of(*of, t.estimate, by_seed)

    def _rows_of(
        self,
        split: str,
        subset: str,
        role: str,
        metric: str,
        measure: str,
        estimate: Estimate,
        by_seed: bool,
    ) -> Iterator[dict[str, Any]]:
        of = {
            "task": self.task,
            "source": self.source,
            "split": split,
            "purpose": self.purposes[split],
            "subset": subset,
            "role": role,
            "metric": metric,
            "measure": measure,
        }
        also = {
            "n": estimate.n,
            "higher_is_better": self.higher_is_better.get(metric),
            "reason": estimate.reason,
        }

        def row(
            seed: int | None, value: float, low: float, high: float, sd: float, seeds: int
        ) -> dict[str, Any]:
            numbers = {"value": value, "low": low, "high": high, "sd": sd, "seeds": seeds}
            return {**of, "seed": seed, **numbers, **also}

        e = estimate
        yield row(None, e.value, e.low, e.high, e.sd, len(self.seeds))
        if by_seed:
            unknown = ((float("nan"), float("nan")),) * len(e.seeds)  # a run that was read back
            of_seeds = zip(e.seeds, e.intervals or unknown, strict=True)
            for seed, (value, (low, high)) in zip(self.seeds, of_seeds, strict=False):
                yield row(seed, value, low, high, float("nan"), 1)

    def to_pandas(self, *, by_seed: bool = False) -> pd.DataFrame:
        """`rows` as a data frame, one row a number; nan where a number is undefined."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(by_seed=by_seed)))


@dataclass(frozen=True)
class RunReport:
    """The whole run: its resolved configuration, the machine, and the scores of every task."""

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    tasks: tuple[TaskScores, ...]
    started: float
    seconds: float
    files: tuple[Path, ...] = ()
