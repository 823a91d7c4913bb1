"""Gaps between what a spurious cue favours and what it does not."""

from __future__ import annotations

from typing import Any

from harness_plugin.scoring import metrics, score
from harness_plugin.scoring.files import columns
from harness_plugin_hooks.adapters.evaluate_modules.factory import (
    RESAMPLING,
    metric_class,
    resampled,
)


def compute(
    predictions: list[int],
    references: list[int],
    groups: list[str],
    known_groups: list[str] | None = None,
    aligned: list[int] | None = None,
    labels: list[str] | None = None,
    in_domain_accuracy: float | None = None,
    **resampling: Any,
) -> dict[str, Any]:
    """Every defined gap in [-1, 1], by its name in this package; an empty group makes nan.

    `_low` and `_high` are its 95% interval over rows. `gap_avg_worst` is corrected for having
    looked for the worst group, `gap_avg_worst_plain` is not.
    """
    split, bootstrap = resampled(**resampling)
    p = columns.as_predictions(
        predictions,
        references,
        groups,
        known_groups=known_groups,
        aligned=aligned,
        labels=labels,
        task=bootstrap.task,
        split=split,
    )
    gaps = [metrics.GAP_AVG_WORST]
    gaps += [metrics.GAP_ALIGNED_CONFLICTING] if aligned is not None else []
    gaps += [metrics.GAP_ENTAILMENT] if columns.is_entailment(labels) else []
    out: dict[str, Any] = {}
    for gap in gaps:
        quantity = columns.quantity({"model": p}, gap, bootstrap)
        out |= columns.numbers(gap.name, score.estimate_of(quantity, "model", 1))
    if in_domain_accuracy is not None:
        out["gap_id_ood"] = in_domain_accuracy - float(metrics.ACC(p)[0])
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
    **RESAMPLING,
)
