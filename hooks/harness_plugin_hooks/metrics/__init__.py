"""The metrics this distribution offers; what they compute is in harness_plugin.scoring.metrics."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register

SUMMARIES = {
    "acc": "share of correct rows",
    "f1": "F1 of the positive label (two labels) or macro F1 (more)",
    "worst_group_acc": "lowest accuracy of any group",
    "acc_train_weighted": "group accuracies weighted by the training set's group shares",
    "gap_id_ood": "accuracy in domain minus accuracy on this out-of-distribution set",
    "gap_aligned_conflicting": "accuracy on bias-aligned minus bias-conflicting rows",
    "gap_avg_worst": "accuracy minus worst-group accuracy",
    "gap_entailment": "accuracy on entailment minus non-entailment rows",
    "ece": "expected calibration error, 15 equal-width bins",
}


@hookimpl
def register_metrics(register: Register) -> None:
    """Offer the built-in metrics."""
    for name, summary in SUMMARIES.items():
        register(name, f"harness_plugin.scoring.metrics:{name.upper()}", summary=summary)
