"""Gaps between what a spurious cue favours and what it does not."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from harness_plugin.scoring import columns, metrics

DESCRIPTION = """Gaps of one set: accuracy minus worst group, bias-aligned minus bias-conflicting
rows, entailment minus non-entailment rows; those that the inputs define."""

INPUTS = """
Args:
    predictions: predicted labels, indices (N,).
    references: gold labels, indices (N,).
    groups: name of each row's group (N,).
    known_groups: all groups there are, those without a row included; default: those that occur.
        A group without a row makes the result nan, with a warning.
    aligned: 1 where the bias points to the label, 0 where it points away, -1 undefined (N,).
    labels: names of the labels, in order; ("entailment", "non-entailment") for the gap of HANS.
    in_domain_accuracy: accuracy in domain, for the gap to this set.
"""


class SpuriousGap(evaluate.Metric):  # type: ignore[misc]
    """Gaps between what a spurious cue favours and what it does not."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Sagawa et al. 2020, arXiv:1911.08731; McCoy et al. 2019, arXiv:1902.01007",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "groups": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self,
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
            predictions,
            references,
            groups,
            known_groups=known_groups,
            aligned=aligned,
            labels=labels,
        )
        wanted = [metrics.GAP_AVG_WORST]
        wanted += [metrics.GAP_ALIGNED_CONFLICTING] if aligned is not None else []
        wanted += [metrics.GAP_ENTAILMENT] if columns.is_entailment(labels) else []
        out: dict[str, Any] = {gap.name: columns.value(gap, p) for gap in wanted}
        if in_domain_accuracy is not None:
            out["gap_id_ood"] = in_domain_accuracy - columns.value(metrics.ACC, p)
        return out
