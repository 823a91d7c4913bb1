"""Predictions of one model on one evaluation set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness_plugin.errors import HarnessError

if TYPE_CHECKING:
    from harness_plugin.data.columns import Column
    from harness_plugin.data.split import Split

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.floating[Any]]

COLLAPSE_RULES = ("argmax", "sum", "restrict")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of one model of one seed on one evaluation set.

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
    texts: Mapping[str, Column] = field(default_factory=dict, repr=False)
    """Input texts by column, as Arrow holds them; empty for images."""

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
        texts={column: split.texts(column) for column in texts},
    )
