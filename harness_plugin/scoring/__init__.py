"""Metrics, intervals and verdicts: pure functions of predictions."""
