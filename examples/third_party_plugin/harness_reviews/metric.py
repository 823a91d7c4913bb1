"""The metric: how often a model is sure and wrong."""

from harness_plugin.records import Floats, Predictions
from harness_plugin.scoring.metrics import Metric

SURE = 0.9


def confident_errors(predictions: Predictions, counts: Floats) -> Floats:
    """(B,) share of rows, in [0, 1], with another label at a probability of at least 0.9.

    `counts` (B, N) says how often each of the N rows counts in each of B resamples.
    """
    probability, label = predictions.probabilities, predictions.probabilities.argmax(axis=1)
    wrong = (probability.max(axis=1) >= SURE) & (label != predictions.label)
    share: Floats = counts @ wrong / counts.sum(axis=1)
    return share


CONFIDENT_ERRORS = Metric(
    "confident_errors", confident_errors, False, "calibration", "share of rows, sure and wrong"
)
