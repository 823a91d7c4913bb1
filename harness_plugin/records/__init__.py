"""The frozen records that travel between packages and are handed to hooks. NumPy only."""

from harness_plugin.records.estimates import (
    Estimate,
    IntervalOf,
    MetricInfo,
    ModelScores,
    Transfer,
    VarianceComponents,
)
from harness_plugin.records.predictions import (
    COLLAPSE_RULES,
    Counts,
    Floats,
    Ints,
    Predictions,
    label_spelling,
    predictions_of,
)
from harness_plugin.records.runs import (
    RunReport,
    TaskScores,
    TrainedModel,
)
from harness_plugin.records.verdicts import (
    DEFAULT_RULE,
    Evidence,
    Flips,
    SetPlan,
    VerdictRule,
)

__all__ = [
    "COLLAPSE_RULES",
    "DEFAULT_RULE",
    "Counts",
    "Estimate",
    "Evidence",
    "Flips",
    "Floats",
    "IntervalOf",
    "Ints",
    "MetricInfo",
    "ModelScores",
    "Predictions",
    "RunReport",
    "SetPlan",
    "TaskScores",
    "TrainedModel",
    "Transfer",
    "VarianceComponents",
    "VerdictRule",
    "label_spelling",
    "predictions_of",
]
