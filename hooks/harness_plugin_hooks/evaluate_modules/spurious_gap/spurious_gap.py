"""Gaps between what a spurious cue favours and what it does not."""

from __future__ import annotations

from typing import Any

from harness_plugin.scoring import metrics
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.evaluate_modules.factory import metric_class


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    known_groups: list[str] | None = None,
    aligned: list[int] | None = None,
    labels: list[str] | None = None,
    in_domain_accuracy: float | None = None,
) -> dict[str, Any]:
    """Every defined gap in [-1, 1], by its name in this package; an empty group makes nan."""
    p = columns.as_predictions(
        predictions, references, groups, known_groups=known_groups, aligned=aligned, labels=labels
    )
    gaps = [metrics.GAP_AVG_WORST]
    gaps += [metrics.GAP_ALIGNED_CONFLICTING] if aligned is not None else []
    gaps += [metrics.GAP_ENTAILMENT] if columns.is_entailment(labels) else []
    out: dict[str, Any] = {gap.name: columns.value(gap, p) for gap in gaps}
    if in_domain_accuracy is not None:
        out["gap_id_ood"] = in_domain_accuracy - columns.value(metrics.ACC, p)
    return out


SpuriousGap = metric_class(
    compute,
    "SpuriousGap",
    "Gaps of one set: accuracy minus worst group, bias-aligned minus bias-conflicting\n"
    "rows, entailment minus non-entailment rows; those that the inputs define.",
    "Sagawa et al. 2020, arXiv:1911.08731; McCoy et al. 2019, arXiv:1902.01007",
    aligned="1 where the bias points to the label, 0 where it points away, -1 undefined (N,).",
    labels='names of the labels, in order; ("entailment", "non-entailment") for the gap of HANS.',
    in_domain_accuracy="accuracy in domain, for the gap to this set.",
)
